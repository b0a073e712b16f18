"""`--help` lists the options of a command under headings."""

from __future__ import annotations

import re

import click
import pytest

from gradcheck_cli.cli import COMMANDS
from gradcheck_cli.cli.grouped import GroupedCommand, GroupedOption, Heading

GROUPED = [
    pytest.param(command, id=command.name) for command in COMMANDS if isinstance(command, GroupedCommand)
]


def help_of(command):
    return command.get_help(click.Context(command, info_name=command.name, terminal_width=100))


def listed_under(text):
    """The options of each section of a help text, by its heading."""
    sections = re.findall(r"^(\w[\w ]*):\n((?:  .*\n|\n)+)", text + "\n", re.MULTILINE)
    return {heading: re.findall(r"^  (?:-\w, )?(--[\w-]+)", body, re.MULTILINE) for heading, body in sections}


@pytest.mark.parametrize("command", GROUPED)
def test_every_option_is_listed_once_and_under_its_heading(command):
    sections = listed_under(help_of(command))
    for option in command.params:
        if isinstance(option, click.Option):
            name = max(option.opts, key=len)
            assert [heading for heading, names in sections.items() if name in names] == [option.heading], name


@pytest.mark.parametrize("command", GROUPED)
def test_headings_keep_their_order_and_help_comes_last(command):
    headings = [heading for heading, options in listed_under(help_of(command)).items() if options]
    assert headings == [heading for heading in Heading if heading in headings]
    assert listed_under(help_of(command))[Heading.OTHER] == ["--help"]


def test_an_option_without_a_heading_is_listed_among_the_others():
    command = GroupedCommand("try", params=[click.Option(["--plain"]), GroupedOption(["--grouped"])])
    assert listed_under(help_of(command)) == {Heading.OTHER: ["--plain", "--grouped", "--help"]}


def test_the_commands_with_many_options_are_grouped():
    assert [c.name for c in COMMANDS if len(c.params) > 4 and not isinstance(c, GroupedCommand)] == []
