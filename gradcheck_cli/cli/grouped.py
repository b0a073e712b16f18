"""Options that `--help` lists under headings."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import click


class Heading(StrEnum):
    """The headings above groups of options, in the order in which `--help` shows them."""

    WHAT = "What to check"
    HOW = "How to check"
    OUTPUT = "Output"
    OTHER = "Other options"


class GroupedOption(click.Option):
    """An option that also knows the heading under which `--help` lists it."""

    def __init__(self, *args: Any, heading: Heading = Heading.OTHER, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose `--help` lists the options in groups under headings, and `--help` itself last."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading that has options."""
        for heading in Heading:
            records = [
                record
                for parameter in self.get_params(context)
                if isinstance(parameter, click.Option)
                and getattr(parameter, "heading", Heading.OTHER) is heading
                and (record := parameter.get_help_record(context))
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


Command = TypeVar("Command", bound=Callable[..., Any])


def option(*names: str, under: Heading, **attributes: Any) -> Callable[[Command], Command]:
    """Return a decorator that declares an option as `click.option` does, under a heading of `--help`."""
    return click.option(*names, cls=GroupedOption, heading=under, **attributes)
