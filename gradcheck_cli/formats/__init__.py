"""Renderings of a run. To add a format: one file with `render`, and its line in `FORMATS`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.view import View

if TYPE_CHECKING:
    from gradcheck_cli.explain import Explanation
    from gradcheck_cli.mutate import Mutation
    from gradcheck_cli.report import Run
    from gradcheck_cli.sweep import Sweep

FORMATS = {
    "table": "gradcheck_cli.formats.table",
    "json": "gradcheck_cli.formats.json",
    "junit": "gradcheck_cli.formats.junit",
    "github": "gradcheck_cli.formats.github",
    "markdown": "gradcheck_cli.formats.markdown",
    "html": "gradcheck_cli.formats.html",
}
"""Each format's module, loaded when it is asked for, with `render(run, view)`, and `WRITTEN`: its files."""

DERIVATIONS = ("table", "json", "markdown")
"""The formats whose modules have `render_explanation(spec, explanation, view)`, too."""

SWEEP_FORMATS = {
    "table": "gradcheck_cli.formats.sweep",
    "json": "gradcheck_cli.formats.json",
}
"""The same of those that a sweep has: `render_sweep`."""

MUTATION_FORMATS = {
    "table": "gradcheck_cli.formats.mutation",
    "json": "gradcheck_cli.formats.json",
}
"""The same of those that planted mistakes have: `render_mutation`."""

PACKAGES = {"html": "jinja2"}
"""What a format needs that is not installed unless the extra of its name is."""


def refuse_missing(format: str) -> None:
    """Raises `InputError` where a format's package is not installed: before the work, not after it."""
    package = PACKAGES.get(format)
    if package and find_spec(package) is None:
        message = f"format {format} needs the package {package}, which is not installed"
        raise InputError(Complaint(message, help=f"pip install {package}"))


def suffix_of(format: str) -> str:
    """The usual ending of the format's files, as `.xml`."""
    written: Written = import_module(FORMATS[format]).WRITTEN
    return written.suffixes[0]


def may_replace(format: str, file: Path) -> bool:
    """Whether a report in this format may take the place of the file."""
    written: Written = import_module(FORMATS[format]).WRITTEN
    return written.may_replace(file)


def render(format: str, run: Run, view: View) -> str:
    """The whole run as text that ends with a newline."""
    text: str = import_module(FORMATS[format]).render(run, view)
    return text


def render_explanation(format: str, spec: str, explanation: Explanation, view: View) -> str:
    """The derivation of one spec's output layer as text that ends with a newline."""
    text: str = import_module(FORMATS[format]).render_explanation(spec, explanation, view)
    return text


def render_sweep(format: str, spec: str, sweep: Sweep, view: View) -> str:
    """The errors of one spec's gradients against the step as text that ends with a newline."""
    text: str = import_module(SWEEP_FORMATS[format]).render_sweep(spec, sweep, view)
    return text


def render_mutation(format: str, spec: str, mutation: Mutation, view: View) -> str:
    """What became of the mistakes planted in one spec, as text that ends with a newline."""
    text: str = import_module(MUTATION_FORMATS[format]).render_mutation(spec, mutation, view)
    return text
