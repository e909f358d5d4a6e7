"""Bind this process to its parent's life, then become the command.

Called as a script: `trampoline.py PARENT_PID COMMAND ...`. A child asks the kernel for its own death at its parent's,
which cannot be asked from outside. Doing it here and not in a function between fork and exec keeps the parent's spawn a
plain vfork: the parents hold gRPC threads and large heaps, and a fork of those may deadlock or stall.

It imports nothing of the project: it runs without site-packages and costs some 14 ms.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_PARENT_GONE = 113
EXIT_CANNOT_EXECUTE = 127


def main() -> None:
    """Set the death signal, check that the parent is still there, and execute the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes  # other systems have no such call; there the reaper alone cleans up

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call: then no signal ever comes.
    if os.getppid() != parent:
        os._exit(EXIT_PARENT_GONE)
    # The interpreter ignores these two, and what is ignored stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - this is the purpose of the file
    except OSError as error:
        sys.stderr.write(f"cannot execute {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(EXIT_CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
