"""`gradcheck check`: check the gradients of specs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, get_args

import click

from gradcheck_cli.cli.changes import changed, executor_of, expand, located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_specs
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
from gradcheck_cli.cli.progress import Activity, Progress
from gradcheck_cli.cli.reports import add_to_summary, report_files, write_reports
from gradcheck_cli.cli.terminal import DEFECT, complain, print_traceback, say, write_result
from gradcheck_cli.errors import Complaint, ExitCode, InputError, UntrustedReferenceError, is_interruption
from gradcheck_cli.formats import FORMATS, refuse_missing, render
from gradcheck_cli.formats.view import view_of, wants_color
from gradcheck_cli.spec.allowed import MEMORY, SEED, Differences
from gradcheck_cli.spec.code_sources import names_of_sources

if TYPE_CHECKING:
    from gradcheck_cli.report import Outcome, Report
    from gradcheck_cli.spec.spec import Spec


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
    outcomes: list[Outcome] = []
    try:
        for path in paths:
            outcome = _check_one(path, changes, no_code, timeout, wants_color(color, sys.stderr))
            outcomes.append(outcome)
            complain(*outcome.complaints)
    except KeyboardInterrupt:
        if not outcomes:
            raise
        say("", f"interrupted: {len(outcomes)} of {len(paths)} specs were checked")
        outcomes += map(_not_reached, paths[len(outcomes) :])
    return tuple(outcomes)


def _check_one(
    path: str, changes: dict[str, Any], no_code: bool, timeout: float | None, color: bool
) -> Outcome:
    """Read and check one spec. Errors become part of the outcome, so that the other specs still run."""
    from gradcheck_cli.report import Outcome
    from gradcheck_cli.spec.file import read_spec

    start, name = perf_counter(), _named(path)

    def failed(code: ExitCode, *complaints: Complaint) -> Outcome:
        return Outcome(name, complaints=complaints, failure=code, seconds=perf_counter() - start)

    try:
        refuse_empty_folder(path)
        read = read_spec(path)
        with located(read, changes):
            spec = changed(read.spec, changes)
            if no_code:
                refuse_code(spec)
            executor = executor_of(spec, changes, no_code)
            bar = (Activity if spec.names_code else Progress)(name, color)
            report = run_apart(spec, timeout, _checked, spec, bar, executor)
    except InputError as error:
        return failed(error.exit_code, *error.complaints)
    except UntrustedReferenceError as error:
        return failed(error.exit_code, Complaint(f"{name}: {error}", help=DEFECT))
    except Exception as error:
        if is_interruption(error):
            raise KeyboardInterrupt from None
        print_traceback()
        return failed(ExitCode.DEFECT, Complaint(f"{name}: gradcheck failed; see above", help=DEFECT))
    places = {comparison.name: read.place_of(comparison.name) for comparison in report.comparisons}
    return Outcome(name, report, seconds=perf_counter() - start, places=places)


def _checked(spec: Spec, bar: Progress | Activity, executor: str | None) -> Report:
    from gradcheck_cli.checker import check as check_spec

    with bar as progress:
        return check_spec(spec, progress, executor=executor)


def _not_reached(path: str) -> Outcome:
    from gradcheck_cli.report import Outcome

    what = Complaint("interrupted before it was checked")
    return Outcome(_named(path), complaints=(what,), failure=ExitCode.INTERRUPTED)


def _named(path: str) -> str:
    return "<stdin>" if path == "-" else path


def refuse_empty_folder(path: str) -> None:
    """Raise an `InputError` if the path is a folder.

    Such a folder contains no specs; otherwise `expand` would have replaced the folder with its specs.
    """
    if os.path.isdir(path):
        raise InputError(Complaint(f"folder '{path}' contains no spec (.yaml or .yml)"))
