"""First lines of any child process: tie its life to the local system's, then become the program asked for.

Run as a script: `python -I -S child_start.py <parent pid> <program> <arguments…>`. A `preexec_fn` would do the same,
but runs Python between fork and exec of a process full of threads, and rules out the cheap vfork.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[1]):  # it died before we asked
            os._exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])
