"""A project's default options, from [tool.gradcheck] in its pyproject.toml."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from gradcheck_cli.cli.settable import PROJECT_FILE, Commands, key_of, options_of, unknown_word
from gradcheck_cli.errors import Complaint, InputError, Position

SPECS = "specs"
"""The key for the specs that `gradcheck check` checks if it gets no arguments."""


@dataclass(frozen=True)
class Project:
    """The [tool.gradcheck] table of a pyproject.toml, and the file's text."""

    file: str
    text: str
    table: Mapping[str, Any]

    def defaults(self, command: click.Command, commands: Commands) -> dict[str, Any]:
        """Return the command's defaults, keyed by the Python names of its options.

        Raises `InputError` for each key unknown to all commands and each value that no command accepts. A key
        that belongs only to another command is ignored.
        """
        self._refuse_wrong(options_of(commands), options_of(commands, barred=True))
        return self._specs_of(command) | {
            str(option.name): _converted(option, self.table[key_of(option)])
            for option in options_of({"": command})
            if key_of(option) in self.table and self._reason_against(option) is None
        }

    def _specs_of(self, command: click.Command) -> dict[str, Any]:
        """Return the paths of the project's specs as the default of the argument `specs`.

        The result is empty if the project lists no specs or the command takes only one spec.
        """
        if SPECS not in self.table or all(parameter.name != SPECS for parameter in command.params):
            return {}
        return {SPECS: [os.path.join(os.path.dirname(self.file), path) for path in self.table[SPECS]]}

    def _refuse_wrong(self, options: Sequence[click.Option], barred: Sequence[click.Option]) -> None:
        known, complaints = [SPECS, *(key_of(option) for option in options)], []
        for key, value in self.table.items():
            if key == SPECS:
                if not (isinstance(value, list) and value and all(isinstance(each, str) for each in value)):
                    message = f'{SPECS} must be a list of files and folders, such as ["configs"]'
                    complaints.append(self._located(key, Complaint(message)))
                continue
            reasons = [self._reason_against(option) for option in options if key_of(option) == key]
            if not reasons:
                complaints.append(self._located(key, unknown_word("key", key, known, map(key_of, barred))))
            elif None not in reasons:
                complaints.append(self._located(key, Complaint(f"{key}: {reasons[0]}")))
        if complaints:
            raise InputError(*complaints)

    def _reason_against(self, option: click.Option) -> str | None:
        try:
            _converted(option, self.table[key_of(option)])
        except click.BadParameter as error:
            return error.message.rstrip(".")
        return None

    def _located(self, key: str, complaint: Complaint) -> Complaint:
        position = self._position(key)
        place = "" if position else f"{self.file}: [tool.gradcheck]: "
        return replace(complaint, message=place + complaint.message, position=position)

    def _position(self, key: str) -> Position | None:
        """Return the key's position in the file; None if the key is not under a [tool.gradcheck] heading.

        tomllib gives no positions, so the text is searched.
        """
        inside = False
        for number, line in enumerate(self.text.splitlines(), start=1):
            if re.match(r"\s*\[", line):
                inside = bool(re.match(r"\s*\[\s*tool\s*\.\s*gradcheck\s*\]", line))
            found = re.match(rf"""\s*(["']?{re.escape(key)}["']?)\s*=""", line)
            if inside and found:
                return Position(self.file, number, found.start(1) + 1, line)
        return None


def _converted(option: click.Option, value: Any) -> Any:
    """Convert a value as if it came from the command line. Raises `BadParameter` if the option rejects it."""
    if isinstance(value, list) and not option.multiple:
        raise click.BadParameter("expected a single value, not a list")
    words = [_word(item) for item in (value if isinstance(value, list) else [value])]
    context = click.Context(click.Command(None))
    return option.type_cast_value(context, words if option.multiple else words[0])


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        kind = "list in a list" if isinstance(value, list) else "table"
        raise click.BadParameter(f"a {kind} is not allowed")
    return str(value).lower() if isinstance(value, bool) else str(value)


def nearest_project() -> Project | None:
    """Return the project of the nearest pyproject.toml, in the current folder or a folder above it.

    Returns None if there is no such file, or if it never mentions gradcheck.
    """
    try:
        here = Path.cwd()
    except OSError:  # the current folder has been deleted
        return None
    path = next((p for folder in (here, *here.parents) if os.path.isfile(p := folder / PROJECT_FILE)), None)
    return _read(path) if path else None


def _read(path: Path) -> Project | None:
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
    return Project(file, text, table)
