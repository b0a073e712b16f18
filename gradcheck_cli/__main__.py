"""Run the command, also as `python -m gradcheck_cli`; imports wait until Ctrl-C is handled."""

from __future__ import annotations

import gc
import sys

_LOADED = 150_000
"""An allocation threshold above the number of objects that all modules create."""


def main() -> None:
    """Run the command line; Ctrl-C during the imports ends with 130, too."""
    put_off_garbage()
    try:
        from gradcheck_cli.cli import main as command
    except BaseException as error:
        from gradcheck_cli.errors import is_interruption

        if not is_interruption(error):
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    try:
        command()
    finally:
        gc.freeze()  # skip a last pass over memory that the system is about to free


def put_off_garbage() -> None:
    """Postpone garbage collection while modules load, since all of their objects stay."""
    usual = gc.get_threshold()

    def as_usual(*_: object) -> None:
        gc.callbacks.remove(as_usual)
        gc.set_threshold(*usual)

    gc.set_threshold(_LOADED, *usual[1:])
    gc.callbacks.append(as_usual)


if __name__ == "__main__":
    main()
