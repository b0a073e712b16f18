"""The output formats. To add one, write a module with `render` and list it in `FORMATS`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.view import View

if TYPE_CHECKING:
    from gradcheck_cli.explain.explain import Explanation
    from gradcheck_cli.mutate.mutate import Mutation
    from gradcheck_cli.report import Run
    from gradcheck_cli.sweep.sweep import Sweep

FORMATS = {
    "table": "gradcheck_cli.formats.table",
    "json": "gradcheck_cli.formats.json",
    "junit": "gradcheck_cli.formats.junit",
    "github": "gradcheck_cli.formats.github",
    "markdown": "gradcheck_cli.formats.markdown",
    "html": "gradcheck_cli.formats.html",
}
"""The module of each format, loaded on demand. It defines `render(run, view)` and `WRITTEN`, its files."""

DERIVATIONS = ("table", "json", "markdown")
"""The formats that also have `render_explanation(spec, explanation, view)`."""

SWEEP_FORMATS = {
    "table": "gradcheck_cli.formats.sweep",
    "json": "gradcheck_cli.formats.json",
}
"""The formats for a sweep, and the module of each, which defines `render_sweep(spec, sweep, view)`."""

MUTATION_FORMATS = {
    "table": "gradcheck_cli.formats.mutation",
    "json": "gradcheck_cli.formats.json",
}
"""The formats for planted mistakes, and their modules with `render_mutation(spec, mutation, view)`."""

PACKAGES = {"html": "jinja2"}
"""The package that a format needs, if any. The extra with the format's name installs it."""


def refuse_missing(format: str) -> None:
    """Raise `InputError` before the work starts if a format's package is not installed."""
    package = PACKAGES.get(format)
    if package and find_spec(package) is None:
        message = f"format {format} needs the package {package}, which is not installed"
        raise InputError(Complaint(message, help=f"pip install {package}"))


def suffix_of(format: str) -> str:
    """Return the usual suffix of the format's files, such as `.xml`."""
    written: Written = import_module(FORMATS[format]).WRITTEN
    return written.suffixes[0]


def may_replace(format: str, file: Path) -> bool:
    """Return whether a report in this format may replace the file."""
    written: Written = import_module(FORMATS[format]).WRITTEN
    return written.may_replace(file)


def render(format: str, run: Run, view: View) -> str:
    """Return the run as text that ends with a newline."""
    text: str = import_module(FORMATS[format]).render(run, view)
    return text


def render_explanation(format: str, spec: str, explanation: Explanation, view: View) -> str:
    """Return the derivation for the layers of one spec as text that ends with a newline."""
    text: str = import_module(FORMATS[format]).render_explanation(spec, explanation, view)
    return text


def render_sweep(format: str, spec: str, sweep: Sweep, view: View) -> str:
    """Return the sweep of one spec as text that ends with a newline."""
    text: str = import_module(SWEEP_FORMATS[format]).render_sweep(spec, sweep, view)
    return text


def render_mutation(format: str, spec: str, mutation: Mutation, view: View) -> str:
    """Return which of the mistakes planted for one spec were caught, as text that ends with a newline."""
    text: str = import_module(MUTATION_FORMATS[format]).render_mutation(spec, mutation, view)
    return text
