"""`gradcheck sweep`: plot the error of each scheme against its step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.cli.changes import changed, located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_specs
from gradcheck_cli.cli.grouped import GroupedCommand, Heading, option
from gradcheck_cli.cli.options import (
    EXIT_CODES_HELP,
    code_options,
    color_option,
    format_option,
    gradients_option,
    inputs_option,
    no_code_option,
    only_option,
    timeout_option,
)
from gradcheck_cli.cli.progress import Progress
from gradcheck_cli.cli.terminal import DEFECT, complain, say, write_result
from gradcheck_cli.errors import Complaint, UntrustedReferenceError
from gradcheck_cli.formats import RENDERERS, render
from gradcheck_cli.formats.view import view_of, wants_color
from gradcheck_cli.numerical.schemes import plain_schemes

if TYPE_CHECKING:
    from gradcheck_cli.files.output import Output
    from gradcheck_cli.spec.spec import Spec
    from gradcheck_cli.sweep.sweep import Sweep


_SCHEMES = plain_schemes()


@click.command(
    cls=GroupedCommand, epilog=EXIT_CODES_HELP, short_help="Plot the error against the step of each scheme."
)
@click.argument("spec", metavar="SPEC", shell_complete=complete_specs)
@option(
    "--scheme",
    "schemes",
    under=Heading.HOW,
    multiple=True,
    allow_from_autoenv=False,  # a scheme from a project or a variable is meant for `check`
    metavar="SCHEME",
    type=click.Choice(_SCHEMES),
    help=f"Sweep this scheme: {', '.join(_SCHEMES)}. 'complex' cannot be used with your own code.  ["
    "repeatable; default: all]",
)
@only_option
@inputs_option
@gradients_option
@code_options
@no_code_option
@timeout_option
@option(
    "--save",
    under=Heading.OUTPUT,
    allow_from_autoenv=False,
    metavar="FILE",
    help="Also write the plot to FILE.svg or FILE.png. Needs matplotlib.",
)
@format_option(*RENDERERS["Sweep"])
@color_option
def sweep(
    spec: str,
    schemes: tuple[str, ...],
    no_code: bool,
    timeout: float | None,
    save: str | None,
    format: str,
    color: str,
    **changes: Any,
) -> int:
    """Plot the error of each difference scheme in SPEC at steps from 1 down to 1e-15.

    SPEC is a YAML file, or - for standard input. The error is the norm of analytic - numerical, relative to
    the norm of the gradient. If the gradient is right, the error falls with the step, at the order of the
    scheme, until rounding noise takes over. If it is wrong, no step lowers the error.

    For a large network or large code, only a random sample of the entries is swept. The verdict is never
    better than that of `gradcheck check`, which checks every entry.
    """
    from gradcheck_cli.spec.file import read_spec

    to = _picture(save)
    read = read_spec(spec)
    try:
        with located(read, changes):
            spec_now = changed(read.spec, changes)
            if no_code:
                refuse_code(spec_now)
            bar = Progress(read.path, wants_color(color, sys.stderr))
            swept = run_apart(spec_now, timeout, _swept, spec_now, schemes, bar)
    except UntrustedReferenceError as error:
        complain(Complaint(f"{read.path}: {error}", help=DEFECT))
        return int(error.exit_code)
    if to is not None:
        from gradcheck_cli.formats.sweep.picture import save as write_picture

        write_picture(to, read.path, swept)
        say(f"{read.path}: plot written to {to.path}")
    return write_result(render(format, swept, view_of(color), read.path), swept.exit_code)


def _swept(spec: Spec, schemes: tuple[str, ...], bar: Progress) -> Sweep:
    from gradcheck_cli.sweep.sweep import sweep as sweep_spec

    with bar as progress:
        return sweep_spec(spec, schemes, progress)


def _picture(save: str | None) -> Output | None:
    """Return the file for the plot, or None without --save.

    Raises `InputError` if the file cannot be written.
    """
    if save is None:
        return None
    from gradcheck_cli.files.output import Output
    from gradcheck_cli.formats.sweep.picture import refuse_unwritable

    to = Output("--save", str(Path(save)))
    refuse_unwritable(to)
    return to
