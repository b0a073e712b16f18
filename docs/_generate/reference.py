"""Generate parts of the reference pages: each public function returns Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

import click
import derivations as derivations_of_layers
import spec_keys as keys_of_spec

from gradcheck_cli import __version__
from gradcheck_cli.cli import COMMANDS, cli
from gradcheck_cli.cli.options import EXIT_CODES_HELP
from gradcheck_cli.cli.settable import key_of, options_of, variable_of
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.table import TENSOR_COLUMNS
from gradcheck_cli.spec.schema import json_schema

_CODE = re.compile(r"^ +(\d+) +(.+(?:\n {5,}.+)*)", re.MULTILINE)


def spec_keys() -> str:
    return keys_of_spec.page(json_schema(__version__))


def derivations(*kinds: str) -> str:
    return derivations_of_layers.page(*kinds)


def commands() -> str:
    """Return every command with its arguments, options and exit codes."""
    return "\n\n".join(_command(command) for command in COMMANDS)


def exit_codes() -> str:
    """Return a table of `ExitCode`, worded as in `--help`."""
    rows = [
        f"| {code} | `ExitCode.{ExitCode(code).name}` | {text} |" for code, text in _codes(EXIT_CODES_HELP)
    ]
    return "\n".join(["| code | in Python | meaning |", "|---|---|---|", *rows])


def columns() -> str:
    """Return the meanings of the columns in the table of tensors."""
    rows = [f"| *{column.heading}* | {_capital(column.means)} |" for column in TENSOR_COLUMNS if column.means]
    return "\n".join(["| column | what it is |", "|---|---|", *rows])


def _capital(text: str) -> str:
    return (text if text[1:2] == "," else text[0].upper() + text[1:]).replace("|", "\\|")


def settings() -> str:
    """Return a table of the options that a project or the environment may set."""
    settable = {key_of(option): option for option in options_of(cli.commands)}
    rows = [
        f"| `{key}` | `{variable_of(option)}` | {_commands_with(key)} |"
        for key, option in sorted(settable.items())
        if key not in _ABOUT_THE_COMMAND
    ]
    return "\n".join(["| key | variable | commands |", "|---|---|---|", *rows])


_ABOUT_THE_COMMAND = ("help", "version")


def _commands_with(key: str) -> str:
    having = [command for command in COMMANDS if key in map(key_of, options_of({"": command}))]
    return ", ".join(f"[`{command.name}`](commands.md#gradcheck-{command.name})" for command in having)


def _command(command: click.Command) -> str:
    context = click.Context(command, cli.make_context("gradcheck", [], resilient_parsing=True), command.name)
    usage = " ".join(command.collect_usage_pieces(context))
    codes = _codes(command.epilog or "")
    parts = [
        f"## gradcheck {command.name}",
        f"```text\ngradcheck {command.name} {usage}\n```",
        _marked_up(inspect.cleandoc(command.help or "")),
        _options(command, context),
        f"Exit codes: {'; '.join(f'**{code}** {text}' for code, text in codes)}." if codes else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _options(command: click.Command, context: click.Context) -> str:
    """Return a table of a command's options, or one per heading if `--help` groups them."""
    groups: dict[str, list[str]] = {}
    for option in command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record:
            row = f"| {_names(record[0])} | {_help(record[1])} |"
            groups.setdefault(getattr(option, "heading", "Options"), []).append(row)
    tables = ("\n".join([f"| {heading} | |", "|---|---|", *rows]) for heading, rows in groups.items())
    return "\n\n".join(tables)


def _names(names: str) -> str:
    """Format names such as ``-q, --quiet`` or ``--scheme [a|b]`` as code; a long list of choices may wrap."""
    option, _, values = names.partition(" [")
    if not values:
        return f"`{names}`"
    return f"`{option}` {', '.join(f'`{value}`' for value in values.rstrip(']').split('|'))}"


def _help(text: str) -> str:
    """Return an option's help text, then in italics its default, its range and whether it may repeat."""
    extra = "; ".join(_EXTRA.findall(text)).replace("<=", " ≤ ").replace(">=", " ≥ ")
    extra = re.sub(r"(?<=\w)([<>])(?=\w)", r" \1 ", extra)
    sentence = _marked_up(_EXTRA.sub("", text).strip())
    return f"{sentence} *({_marked_up(extra)})*" if extra else sentence


_EXTRA = re.compile(r" *\[((?:repeatable|default|x|[\d.]+<)[^\]]*)\]")


def _marked_up(text: str) -> str:
    """Convert text from `--help` to Markdown, so that brackets and comparison signs do not act as markup."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.replace("\b", "").split("\n\n"))
    escaped = "\n\n".join(re.sub(r"(?<!`)([\[\]*|])", r"\\\1", paragraph) for paragraph in paragraphs)
    escaped = escaped.replace("<", "&lt;")
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", escaped)


def _codes(help_text: str) -> Iterable[tuple[int, str]]:
    return [(int(code), " ".join(text.split())) for code, text in _CODE.findall(help_text)]
