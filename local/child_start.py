"""Launcher of child processes: bind the child's life to the local system's, then execute its program.

Run as a script: `python -I -S child_start.py <parent pid> <program> <arguments…>`. A `preexec_fn` would do the same,
but runs Python between fork and exec of a multi-threaded process, and rules out the cheaper vfork.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[1]):  # the parent ended before prctl
            os._exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])
