"""The command, and `python -m gradcheck_cli`: nothing is imported before Ctrl-C can be dealt with."""

from __future__ import annotations

import gc
import sys

_LOADED = 150_000
"""More objects than all modules together are made of."""


def main() -> None:
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
        gc.freeze()  # or Python would look once more through all that the system is about to free


def put_off_garbage() -> None:
    """Look for no garbage while modules are loaded, of which everything stays; later on as usual."""
    usual = gc.get_threshold()

    def as_usual(*_: object) -> None:
        gc.callbacks.remove(as_usual)
        gc.set_threshold(*usual)

    gc.set_threshold(_LOADED, *usual[1:])
    gc.callbacks.append(as_usual)


if __name__ == "__main__":
    main()
