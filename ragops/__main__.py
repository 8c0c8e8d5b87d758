"""The program's first lines: `ragops` and `python -m ragops` both start here."""

import signal
from typing import NoReturn

# Loading the program takes a quarter of a second, in which Ctrl-C would print the traceback of some import. Where
# Ctrl-C is ignored (a job in the background of a script), it stays ignored.
_IS_LOADING_QUIETLY = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _IS_LOADING_QUIETLY:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from ragops.cli import main as program  # noqa: E402


def main() -> NoReturn:
    """Run the program, in which Ctrl-C is KeyboardInterrupt until a command installs its own handler."""
    if _IS_LOADING_QUIETLY:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    program.main()


if __name__ == "__main__":
    main()
