"""Default values of options, from environment variables or from the project's pyproject.toml.

click looks at the environment first (`auto_envvar_prefix`), then at the project (`default_map`). A spec ranks
between the two. A variable overrides the specs of this run, but a project's default applies only to a spec
that sets no value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import click
from click.core import ParameterSource

from gradcheck_cli.cli.settable import PREFIX, PROJECT_FILE, Commands, options_of, unknown_word, variable_of
from gradcheck_cli.errors import InputError


def defaults_of(commands: Commands) -> dict[str, Any]:
    """Return click's `default_map`, with defaults from the nearest pyproject.toml, read on demand."""
    return {name: _Defaults(command, commands) for name, command in commands.items()}


def refuse_unknown_variables(commands: Commands) -> None:
    """Raise `InputError` for each GRADCHECK_… variable that matches no option, such as a misspelt one."""
    known = [variable_of(option) for option in options_of(commands)]
    barred = [variable_of(option) for option in options_of(commands, barred=True)]
    unknown = sorted(name for name in os.environ if name.startswith(f"{PREFIX}_") and name not in known)
    if unknown:
        raise InputError(*(unknown_word("variable", name, known, barred) for name in unknown))


def said_by(option: str, context: click.Context | None = None) -> str:
    """Return the name under which an option was set, for messages: ``--rtol`` or ``GRADCHECK_RTOL``."""
    source, key = _source(option, context), option.replace("_", "-")
    if source is ParameterSource.ENVIRONMENT:
        return f"{PREFIX}_{option.upper()}"
    return f"{key} in {PROJECT_FILE}" if source is ParameterSource.DEFAULT_MAP else f"--{key}"


def is_projects(option: str) -> bool:
    """Return whether the value of an option is only the project's default, which any spec overrides."""
    return _source(option) is ParameterSource.DEFAULT_MAP


def _source(option: str, context: click.Context | None = None) -> ParameterSource | None:
    context = context or click.get_current_context(silent=True)
    return context.get_parameter_source(option) if context else None


class _Defaults(Mapping[str, Any]):
    """The project's defaults for one command, keyed by the Python names of its options."""

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
        from gradcheck_cli.cli.project import nearest_project

        try:
            project = nearest_project()
            return project.defaults(self._command, self._commands) if project else {}
        except InputError:
            if click.get_current_context().resilient_parsing:  # --help must work with a broken pyproject.toml
                return {}
            raise
