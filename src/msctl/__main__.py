"""`msctl` and `python -m msctl`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C before the first verb exits with 130 and no traceback."""
    try:
        from msctl.cli.app import main as run  # inside the try: importing takes long enough to interrupt

        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
