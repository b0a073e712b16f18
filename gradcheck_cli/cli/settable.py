"""Which options can be set elsewhere than on the command line, and what they are called there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from gradcheck_cli.errors import Complaint, did_you_mean

PREFIX = "GRADCHECK"
PROJECT_FILE = "pyproject.toml"

Commands = Mapping[str, click.Command]


def options_of(commands: Commands, barred: bool = False) -> list[click.Option]:
    """Those that say how to check and what to print; or those barred from here, by `allow_from_autoenv`."""
    return [
        option
        for command in commands.values()
        for option in command.params
        if isinstance(option, click.Option) and option.allow_from_autoenv is not barred
    ]


def key_of(option: click.Option) -> str:
    """``no-code`` of ``--no-code``"""
    return max(option.opts, key=len).removeprefix("--")


def variable_of(option: click.Option) -> str:
    return f"{PREFIX}_{str(option.name).upper()}"


def unknown_word(kind: str, word: str, known: Iterable[str], barred: Iterable[str]) -> Complaint:
    allowed = f"there is {', '.join(dict.fromkeys(known))}"
    if word in barred:
        return Complaint(f"'{word}' is for the command line alone", help=allowed)
    return Complaint(f"unknown {kind} '{word}'", help=did_you_mean(word, known) or allowed)
