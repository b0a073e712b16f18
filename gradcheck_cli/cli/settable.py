"""The options that environment variables and pyproject.toml may set, and their names there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from gradcheck_cli.errors import Complaint, did_you_mean

PREFIX = "GRADCHECK"
PROJECT_FILE = "pyproject.toml"

Commands = Mapping[str, click.Command]


def options_of(commands: Commands, barred: bool = False) -> list[click.Option]:
    """Return the options that variables and pyproject.toml may set or, with `barred`, may not set."""
    return [
        option
        for command in commands.values()
        for option in command.params
        if isinstance(option, click.Option) and option.allow_from_autoenv is not barred
    ]


def key_of(option: click.Option) -> str:
    """Return an option's key in pyproject.toml, such as ``no-code`` for ``--no-code``."""
    return max(option.opts, key=len).removeprefix("--")


def variable_of(option: click.Option) -> str:
    """Return the name of an option's environment variable, such as ``GRADCHECK_NO_CODE``."""
    return f"{PREFIX}_{str(option.name).upper()}"


def unknown_word(kind: str, word: str, known: Iterable[str], barred: Iterable[str]) -> Complaint:
    """Return a complaint about an unknown key or variable.

    The complaint suggests a similar name or lists all names.
    """
    allowed = f"choose one of {', '.join(dict.fromkeys(known))}"
    if word in barred:
        return Complaint(f"'{word}' can only be set on the command line", help=allowed)
    return Complaint(f"unknown {kind} '{word}'", help=did_you_mean(word, known) or allowed)
