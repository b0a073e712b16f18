"""`gradcheck check`"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.cli.changes import changed, expand, located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_parameters, complete_reports, complete_specs
from gradcheck_cli.cli.options import (
    EXIT_CODES_HELP,
    OrAuto,
    color_option,
    format_option,
    gradients_option,
    no_code_option,
    python_option,
    rtol_option,
    scheme_option,
    step_option,
    timeout_option,
    torch_option,
)
from gradcheck_cli.cli.progress import Activity, Progress
from gradcheck_cli.cli.reports import add_to_summary, report_files, write_reports
from gradcheck_cli.cli.terminal import DEFECT, complain, print_traceback, say, write_result
from gradcheck_cli.errors import Complaint, ExitCode, InputError, UntrustedReferenceError, is_interruption
from gradcheck_cli.formats import FORMATS, refuse_missing, render
from gradcheck_cli.formats.view import view_of, wants_color

if TYPE_CHECKING:
    from gradcheck_cli.report import Outcome, Report
    from gradcheck_cli.spec import Spec


@click.command(epilog=EXIT_CODES_HELP, short_help="Check the gradients of specs.")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...", shell_complete=complete_specs)
@click.option(
    "--only",
    multiple=True,
    shell_complete=complete_parameters,
    metavar="PATTERN",
    help="Check the parameters that match, e.g. 'output.*'.  [repeatable; default: the spec's]",
)
@scheme_option
@step_option
@rtol_option
@click.option(
    "--differences",
    type=click.Choice(["units", "literal"]),
    help="Move the units' pre-activations, which serves every entry, or each entry by itself, which is slow. "
    "literal moves every entry of code, too, however long it takes.  [default: the spec's]",
)
@click.option(
    "--fast/--no-fast",
    default=None,
    help="Difference code (Python or torch) along random directions, and only what disagrees by entries; as "
    "happens by itself where the entries take over 10 s. Networks of our own are as fast without it.  "
    "[default: the spec's]",
)
@click.option(
    "--jobs",
    metavar="N|auto",
    type=OrAuto(min=1, max=1024),
    help="Work in so many processes at once, if it takes long enough; the result is the same.  "
    "[default: the spec's, or 1]",
)
@click.option(
    "--memory",
    metavar="MIB",
    type=click.IntRange(min=1, max=2**24),
    help="MiB for what is evaluated at once; a network of which that cannot be is refused.  "
    "[default: the spec's, or 256]",
)
@gradients_option
@python_option
@torch_option
@no_code_option
@timeout_option
@click.option(
    "--strict/--no-strict",
    default=None,
    help="A single unresolved entry is exit code 3.  [default: the spec's]",
)
@click.option(
    "--seed",
    metavar="SEED",
    type=click.IntRange(min=0, max=2**32 - 1),
    help="Seed of the entries that are moved literally, as a witness.",
)
@click.option(
    "--show", type=click.IntRange(min=0), default=0, metavar="N", help="Also list the N worst entries."
)
@click.option(
    "--heatmap",
    is_flag=True,
    help="Also draw the relative errors of the tensors that do not agree; where all do, of all.",
)
@format_option(*FORMATS)
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FORMAT=FILE",
    shell_complete=complete_reports,
    help="Also write the result to FILE, in any of these formats, e.g. junit=report.xml.  [repeatable]",
)
@click.option(
    "--only-wrong",
    is_flag=True,
    help="List only the tensors that do not agree, as happens where there are many, unless -v is given.",
)
@click.option("-q", "--quiet", is_flag=True, help="One line per spec.")
@click.option("-v", "--verbose", is_flag=True, help="Also tolerances, the witness and the time taken.")
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

    Without any, those that `specs` names in the [tool.gradcheck] of the nearest pyproject.toml.
    """
    from gradcheck_cli.report import Run

    refuse_missing(format)
    paths = list(expand(specs))
    files = report_files(reports, paths)
    formats = {format, *(file.format for file in files)}
    if heatmap and "table" not in formats:
        raise InputError(Complaint(f"--heatmap is drawn below the table, and {format} has none"))
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
    """What becomes of each spec; of an interrupted run, too, if any of them had been checked."""
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
    """Read and check one spec; what is wrong with it is part of the outcome, so that the others go on."""
    from gradcheck_cli.report import Outcome
    from gradcheck_cli.spec_file import read_spec

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
            bar = (Activity if spec.names_code else Progress)(name, color)
            report = run_apart(spec, timeout, _checked, spec, bar)
    except InputError as error:
        return failed(error.exit_code, *error.complaints)
    except UntrustedReferenceError as error:
        return failed(error.exit_code, Complaint(f"{name}: {error}", help=DEFECT))
    except Exception as error:
        if is_interruption(error):
            raise KeyboardInterrupt from None
        print_traceback()
        return failed(ExitCode.DEFECT, Complaint(f"{name}: gradcheck failed, see above", help=DEFECT))
    places = {comparison.name: read.place_of(comparison.name) for comparison in report.comparisons}
    return Outcome(name, report, seconds=perf_counter() - start, places=places)


def _checked(spec: Spec, bar: Progress | Activity) -> Report:
    from gradcheck_cli.checker import check as check_spec

    with bar as progress:
        return check_spec(spec, progress)


def _not_reached(path: str) -> Outcome:
    from gradcheck_cli.report import Outcome

    what = Complaint("interrupted before it was checked")
    return Outcome(_named(path), complaints=(what,), failure=ExitCode.INTERRUPTED)


def _named(path: str) -> str:
    return "<stdin>" if path == "-" else path


def refuse_empty_folder(path: str) -> None:
    if os.path.isdir(path):  # any other folder has been replaced by what is in it
        raise InputError(Complaint(f"there is no spec (.yaml or .yml) in folder '{path}'"))
