"""The entry point of the command and of `python -m gradcheck_cli`.

Slow imports happen inside `main`, so that Ctrl-C is handled while they run.
"""

from __future__ import annotations

import gc
import sys

_LOADED = 150_000
"""The garbage-collection threshold while modules load.

It exceeds the number of objects that importing all modules creates.
"""


def main() -> None:
    """Run the command; Ctrl-C ends it with exit code 130 even while modules are still being imported."""
    put_off_garbage()
    try:
        from gradcheck_cli.cli import main as command
    except BaseException as error:
        from gradcheck_cli.errors import is_interruption

        if not is_interruption(error):
            raise
        sys.stderr.write("interrupted\n")
        forget_interruption()
        sys.exit(130)
    try:
        command()
    finally:
        forget_interruption()
        gc.freeze()  # skip a last pass over memory that the system is about to free


def forget_interruption() -> None:
    """Let Python exit with our exit code, even if Ctrl-C came while it executed a string.

    Dataclasses execute strings. After such an interruption, Python ends `python -m` by SIGINT, whatever the
    exit code, unless it executes another string.
    """
    exec("")


def put_off_garbage() -> None:
    """Postpone garbage collection until all modules are loaded. An earlier collection would free nothing."""
    usual = gc.get_threshold()

    def as_usual(*_: object) -> None:
        gc.callbacks.remove(as_usual)
        gc.set_threshold(*usual)

    gc.set_threshold(_LOADED, *usual[1:])
    gc.callbacks.append(as_usual)


if __name__ == "__main__":
    main()
