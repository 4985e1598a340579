"""First lines of a sandbox process: tie its life to the local system's, then run the Lambda runtime.

Run as a script: `python -P sandbox_start.py <parent pid> <handler>`. A `preexec_fn` would do the same in fewer
lines, but runs Python between fork and exec of a process full of threads, and rules out the cheap vfork.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies, however it dies (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    _die_with(int(sys.argv[1]))
    from awslambdaric.__main__ import main

    main(["awslambdaric", sys.argv[2]])
