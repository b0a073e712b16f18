"""`gradcheck check`: check the gradients of specs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import click

from gradcheck_cli.cli.changes import expand
from gradcheck_cli.cli.completion import complete_specs
from gradcheck_cli.cli.each_spec import Asked, asked_of, attempt, checked, named
from gradcheck_cli.cli.grouped import GroupedCommand, Heading, option
from gradcheck_cli.cli.options import (
    EXIT_CODES_HELP,
    atol_option,
    batched_option,
    code_options,
    color_option,
    format_option,
    forward_mode_option,
    gradients_option,
    inputs_option,
    jobs_option,
    no_code_option,
    only_option,
    order_option,
    reports_option,
    rtol_option,
    scheme_option,
    show_option,
    step_option,
    timeout_option,
    whole,
)
from gradcheck_cli.cli.reports import add_to_summary, report_files, write_reports
from gradcheck_cli.cli.terminal import complain, say, write_result
from gradcheck_cli.errors import Complaint, ExitCode, InputError
from gradcheck_cli.formats import FORMATS, refuse_missing, render
from gradcheck_cli.formats.view import view_of, wants_color
from gradcheck_cli.spec.allowed import MEMORY, SEED, Differences
from gradcheck_cli.spec.code_sources import names_of_sources

if TYPE_CHECKING:
    from gradcheck_cli.report import Outcome


@click.command(cls=GroupedCommand, epilog=EXIT_CODES_HELP, short_help="Check the gradients of specs.")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...", shell_complete=complete_specs)
@only_option
@inputs_option
@order_option
@forward_mode_option
@batched_option
@gradients_option
@code_options
@no_code_option
@scheme_option
@step_option
@option(
    "--differences",
    under=Heading.HOW,
    type=click.Choice(get_args(Differences)),
    help="What to perturb. 'units' perturbs one unit at a time, which checks all parameters of that unit at "
    "once; 'literal' perturbs one entry at a time, which is slow. For your own code, 'literal' checks every "
    "entry, however long that takes.  "
    "[default: the spec's setting]",
)
@option(
    "--fast/--no-fast",
    under=Heading.HOW,
    default=None,
    help=f"Check code ({names_of_sources()}) along random directions, and individual entries only where a "
    "direction disagrees. This is the default for code that would take over 10 s.  "
    "[default: the spec's setting]",
)
@rtol_option
@atol_option
@option(
    "--strict/--no-strict",
    under=Heading.HOW,
    default=None,
    help="Exit with code 3 if even one entry is unresolved.  [default: the spec's setting]",
)
@option(
    "--seed",
    under=Heading.HOW,
    metavar="SEED",
    type=whole(SEED),
    help="Seed for the random directions, and for the choice of the entries at which literal differences "
    "confirm the unit differences.",
)
@jobs_option
@option(
    "--memory",
    under=Heading.HOW,
    metavar="MIB",
    type=whole(MEMORY),
    help="Memory for intermediate results, in MiB. A network that needs more is refused.  "
    "[default: the spec's setting, or 256]",
)
@timeout_option
@format_option(*FORMATS)
@reports_option
@show_option
@option(
    "--only-wrong",
    under=Heading.OUTPUT,
    is_flag=True,
    help="List only the tensors that do not agree. This is the default for more than 12 tensors.",
)
@option(
    "--heatmap",
    under=Heading.OUTPUT,
    is_flag=True,
    help="Draw the relative errors of each tensor that does not agree, or of all tensors if all agree.",
)
@option("-q", "--quiet", under=Heading.OUTPUT, is_flag=True, help="Print one line per spec.")
@option(
    "-v",
    "--verbose",
    under=Heading.OUTPUT,
    is_flag=True,
    help="Also print what the columns mean, the tolerances, the witness and the time taken.",
)
@color_option
def check(
    specs: tuple[str, ...],
    show: int,
    heatmap: bool,
    only_wrong: bool,
    format: str,
    reports: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    color: str,
    no_code: bool,
    timeout: float | None,
    **changes: Any,
) -> int:
    """Check the gradients of each SPEC: a YAML file, a folder of them, or - for standard input.

    Without SPEC, the command checks the `specs` of [tool.gradcheck] in the nearest pyproject.toml.
    """
    from gradcheck_cli.report import Run

    refuse_missing(format)
    paths = list(expand(specs))
    files = report_files(reports, paths)
    formats = {format, *(file.format for file in files)}
    if heatmap and "table" not in formats:
        raise InputError(Complaint(f"--heatmap is drawn below the table, but {format} has no table"))
    run, view = (
        Run(_outcomes(paths, changes, no_code, timeout, color)),
        view_of(color, show, verbose - quiet, heatmap, only_wrong),
    )
    code = write_result(render(format, run, view), run.exit_code)
    add_to_summary(formats, run, view)
    return write_reports(files, run, view, code)


def _outcomes(
    paths: Sequence[str], changes: dict[str, Any], no_code: bool, timeout: float | None, color: str
) -> tuple[Outcome, ...]:
    """Check each spec and return the outcomes.

    After an interruption, the remaining specs count as interrupted. If no spec has been checked yet, the
    `KeyboardInterrupt` is raised again.
    """
    outcomes: dict[int, Outcome] = {}
    try:
        for number, outcome in _each(paths, changes, no_code, timeout, color):
            outcomes[number] = outcome
            complain(*outcome.complaints)
    except KeyboardInterrupt:
        if not outcomes:
            raise
        say("", f"interrupted: {len(outcomes)} of {len(paths)} specs were checked")
    return tuple(outcomes.get(number) or _not_reached(path) for number, path in enumerate(paths))


def _each(
    paths: Sequence[str], changes: dict[str, Any], no_code: bool, timeout: float | None, color: str
) -> Iterator[tuple[int, Outcome]]:
    """Yield the number and the outcome of each spec, as soon as it is known."""
    asked: dict[int, Asked] = {}
    for number, path in enumerate(paths):
        read = attempt(path, partial(asked_of, path, changes, no_code, timeout))
        if isinstance(read, Asked):
            asked[number] = read
        else:
            yield number, read
    yield from checked(asked, wants_color(color, sys.stderr))


def _not_reached(path: str) -> Outcome:
    from gradcheck_cli.report import Outcome

    what = Complaint("interrupted before it was checked")
    return Outcome(named(path), complaints=(what,), failure=ExitCode.INTERRUPTED)
