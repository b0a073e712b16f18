"""What an option is where the command line does not say: a variable's value, or the project's default.

click asks the environment first (`auto_envvar_prefix`), then the project (`default_map`). What a spec says
stands between the two: a variable is meant for this very run, a project's default for specs that do not say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradcheck_cli.errors import Complaint, InputError, Position, did_you_mean

PREFIX = "GRADCHECK"
_FILE = "pyproject.toml"

Commands = Mapping[str, click.Command]


def defaults_of(commands: Commands) -> dict[str, Any]:
    """click's `default_map`: what the nearest pyproject.toml says of each command, read once it is needed."""
    return {name: _Defaults(command, commands) for name, command in commands.items()}


def refuse_unknown_variables(commands: Commands) -> None:
    """Raises `InputError` for every GRADCHECK_… that is no option's: a misspelt one must not go unnoticed."""
    known = [_variable(option) for option in _options(commands)]
    barred = [_variable(option) for option in _options(commands, barred=True)]
    unknown = sorted(name for name in os.environ if name.startswith(f"{PREFIX}_") and name not in known)
    if unknown:
        raise InputError(*(_unknown("variable", name, known, barred) for name in unknown))


def said_by(option: str, context: click.Context | None = None) -> str:
    """Who gave the option its value in this context, or the current one, as an error calls it."""
    source, key = _source(option, context), option.replace("_", "-")
    if source is ParameterSource.ENVIRONMENT:
        return f"{PREFIX}_{option.upper()}"
    return f"{key} in {_FILE}" if source is ParameterSource.DEFAULT_MAP else f"--{key}"


def is_projects(option: str) -> bool:
    """Whether its value is the project's default, which yields to what a spec says."""
    return _source(option) is ParameterSource.DEFAULT_MAP


def _source(option: str, context: click.Context | None = None) -> ParameterSource | None:
    context = context or click.get_current_context(silent=True)
    return context.get_parameter_source(option) if context else None


def _options(commands: Commands, barred: bool = False) -> list[click.Option]:
    """Those that say how to check and what to print; or those barred from here, by `allow_from_autoenv`."""
    return [
        option
        for command in commands.values()
        for option in command.params
        if isinstance(option, click.Option) and option.allow_from_autoenv is not barred
    ]


def _key(option: click.Option) -> str:
    """``no-code`` of ``--no-code``"""
    return max(option.opts, key=len).removeprefix("--")


def _variable(option: click.Option) -> str:
    return f"{PREFIX}_{str(option.name).upper()}"


def _unknown(kind: str, word: str, known: Iterable[str], barred: Iterable[str]) -> Complaint:
    allowed = f"there is {', '.join(dict.fromkeys(known))}"
    if word in barred:
        return Complaint(f"'{word}' is for the command line alone", help=allowed)
    return Complaint(f"unknown {kind} '{word}'", help=did_you_mean(word, known) or allowed)


class _Defaults(Mapping[str, Any]):
    """The project's defaults of one command's options, by their names in Python."""

    def __init__(self, command: click.Command, commands: Commands) -> None:
        self._command, self._commands = command, commands

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @cached_property
    def _values(self) -> dict[str, Any]:
        try:
            project = _nearest_project()
            return project.defaults(self._command, self._commands) if project else {}
        except InputError:
            if click.get_current_context().resilient_parsing:  # for the help, which is to be had in any case
                return {}
            raise


@dataclass(frozen=True)
class _Project:
    """The [tool.gradcheck] of a pyproject.toml, and the text it stands in."""

    file: str
    text: str
    table: Mapping[str, Any]

    def defaults(self, command: click.Command, commands: Commands) -> dict[str, Any]:
        """The command's defaults, by the names of its options in Python.

        Raises `InputError` for every key that is no command's, and every value that none of them takes. What
        only others take is theirs.
        """
        self._refuse_wrong(_options(commands), _options(commands, barred=True))
        return {
            str(option.name): _converted(option, self.table[_key(option)])
            for option in _options({"": command})
            if _key(option) in self.table and self._reason_against(option) is None
        }

    def _refuse_wrong(self, options: Sequence[click.Option], barred: Sequence[click.Option]) -> None:
        known, complaints = [_key(option) for option in options], []
        for key in self.table:
            reasons = [self._reason_against(option) for option in options if _key(option) == key]
            if not reasons:
                complaints.append(self._located(key, _unknown("key", key, known, map(_key, barred))))
            elif None not in reasons:
                complaints.append(self._located(key, Complaint(f"{key}: {reasons[0]}")))
        if complaints:
            raise InputError(*complaints)

    def _reason_against(self, option: click.Option) -> str | None:
        try:
            _converted(option, self.table[_key(option)])
        except click.BadParameter as error:
            return error.message.rstrip(".")
        return None

    def _located(self, key: str, complaint: Complaint) -> Complaint:
        position = self._position(key)
        place = "" if position else f"{self.file}: [tool.gradcheck]: "
        return replace(complaint, message=place + complaint.message, position=position)

    def _position(self, key: str) -> Position | None:
        """Where the key stands, if the table is written in the usual way; tomllib does not say."""
        inside = False
        for number, line in enumerate(self.text.splitlines(), start=1):
            if re.match(r"\s*\[", line):
                inside = bool(re.match(r"\s*\[\s*tool\s*\.\s*gradcheck\s*\]", line))
            found = re.match(rf"""\s*(["']?{re.escape(key)}["']?)\s*=""", line)
            if inside and found:
                return Position(self.file, number, found.start(1) + 1, line)
        return None


def _converted(option: click.Option, value: Any) -> Any:
    """The value as the option's own type reads the words of a command line, or raises `BadParameter`."""
    if isinstance(value, list) and not option.multiple:
        raise click.BadParameter("a single value is needed here, not a list")
    words = [_word(item) for item in (value if isinstance(value, list) else [value])]
    context = click.Context(click.Command(None))
    return option.type_cast_value(context, words if option.multiple else words[0])


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        kind = "list in a list" if isinstance(value, list) else "table"
        raise click.BadParameter(f"a {kind} is not allowed")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nearest_project() -> _Project | None:
    """The nearest pyproject.toml from here upward, if it speaks of gradcheck."""
    try:
        here = Path.cwd()
    except OSError:  # the folder is gone
        return None
    path = next((p for folder in (here, *here.parents) if os.path.isfile(p := folder / _FILE)), None)
    return _read(path) if path else None


def _read(path: Path) -> _Project | None:
    file = os.path.relpath(path)
    try:
        text = path.read_text(encoding="utf-8")
        if "gradcheck" not in text:
            return None
        import tomllib

        tool = tomllib.loads(text).get("tool")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(Complaint(f"cannot read '{file}': {reason}")) from None
    table = tool.get("gradcheck", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise InputError(Complaint(f"{file}: 'tool.gradcheck' must be a table, [tool.gradcheck]"))
    return _Project(file, text, table)
