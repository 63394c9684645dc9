"""Searches the lines of its standard input for a regular expression and exits with 0 at the first match.

Run by path without site packages by line_matcher.py. Arguments: the expression, and the CPU seconds for one
line, after which the kernel ends the process (SIGVTALRM): a timer in Python would not run during a search.
"""

import re
import signal
import sys


def main() -> int:
    pattern, seconds = re.compile(sys.argv[1]), float(sys.argv[2])
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        if pattern.search(line.decode("utf-8", "replace").removesuffix("\n")):
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
