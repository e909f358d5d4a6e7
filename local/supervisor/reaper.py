"""Kill the process groups of a supervisor that died without stopping them.

Called as a script with a pipe as its standard input. The supervisor writes `+GROUP` for every process it starts and
`-GROUP` when that group is gone; the end of the pipe means that the supervisor is gone, in whatever way. The kernel's
death signal reaches direct children only; groups also hold what those started (a shell's children, a server's workers).
"""

import os
import signal
import sys


def main() -> None:
    """Follow the list of groups until the pipe ends, then kill what is left on it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        sign, group = line[:1], int(line[1:])
        if sign == b"+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue  # all of it ended by itself


if __name__ == "__main__":
    main()
