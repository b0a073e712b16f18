"""The output formats. To add one, write a module with `render` and list it in `RENDERERS`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.view import View

if TYPE_CHECKING:
    from gradcheck_cli.explain.derivation import Explanation
    from gradcheck_cli.mutate.mutate import Mutation
    from gradcheck_cli.report import Run
    from gradcheck_cli.sweep.sweep import Sweep

RENDERERS = {
    "Run": {
        "table": "gradcheck_cli.formats.table",
        "json": "gradcheck_cli.formats.json",
        "junit": "gradcheck_cli.formats.junit",
        "github": "gradcheck_cli.formats.github",
        "markdown": "gradcheck_cli.formats.markdown",
        "html": "gradcheck_cli.formats.html",
    },
    "Explanation": {
        "table": "gradcheck_cli.formats.explanation.table",
        "json": "gradcheck_cli.formats.explanation.json",
        "markdown": "gradcheck_cli.formats.explanation.markdown",
    },
    "Sweep": {
        "table": "gradcheck_cli.formats.sweep.table",
        "json": "gradcheck_cli.formats.sweep.json",
    },
    "Mutation": {
        "table": "gradcheck_cli.formats.mutation.table",
        "json": "gradcheck_cli.formats.mutation.json",
    },
}
"""For each type of result, by the name of its class: its formats, and the module that renders each format.

Classes and modules are loaded only when they are needed. A module for runs defines `render(run, view)`, and
`WRITTEN`, which recognises files in its format. All other modules define `render(result, view, spec)`.
"""

FORMATS = RENDERERS["Run"]
"""The formats in which a run can be printed or written to a report file."""

PACKAGES = {"html": "jinja2"}
"""Maps each format that needs a package to that package.

To install the package, install gradcheck's extra that has the name of the format.
"""


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


def render(format: str, result: Run | Explanation | Sweep | Mutation, view: View, *spec: str) -> str:
    """Return the result as text that ends with a newline.

    spec: the name of the spec that was explained, swept or mutated. Leave the name out for a run, because a
        run contains the names of its specs.
    """
    module = import_module(RENDERERS[type(result).__name__][format])
    text: str = module.render(result, view, *spec)
    return text
