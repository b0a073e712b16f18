"""The command, and `python -m gradcheck_cli`: nothing is imported before Ctrl-C can be dealt with."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from gradcheck_cli.cli import main as command
    except BaseException as error:
        from gradcheck_cli.errors import is_interruption

        if not is_interruption(error):
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
