"""`gradcheck compare`: compare two sources of the same gradients."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import click

from gradcheck_cli.cli.changes import located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_files
from gradcheck_cli.cli.grouped import GroupedCommand, Heading, option
from gradcheck_cli.cli.options import (
    EXIT_CODES_HELP,
    atol_option,
    color_option,
    format_option,
    no_code_option,
    reports_option,
    rtol_option,
    show_option,
    timeout_option,
)
from gradcheck_cli.cli.reports import add_to_summary, report_files, write_reports
from gradcheck_cli.cli.terminal import write_result
from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.formats import FORMATS, refuse_missing, render
from gradcheck_cli.formats.view import view_of

if TYPE_CHECKING:
    from gradcheck_cli.compared.source import Source
    from gradcheck_cli.report import Report
    from gradcheck_cli.spec.file import SpecFile

_SPECS = (".yaml", ".yml")


@click.command(
    cls=GroupedCommand,
    epilog=EXIT_CODES_HELP,
    short_help="Compare two sources of the same gradients.",
)
@click.argument("first", metavar="A", shell_complete=complete_files)
@click.argument("second", metavar="B", shell_complete=complete_files)
@option(
    "--only",
    under=Heading.WHAT,
    multiple=True,
    metavar="PATTERN",
    help="Compare only the arrays whose names match, such as 'output.*'.  [repeatable; default: all]",
)
@option(
    "--name",
    "names",
    under=Heading.WHAT,
    multiple=True,
    metavar="THIS=THAT",
    help="Compare the array THIS of A with the array THAT of B.  [repeatable; "
    "default: arrays with the same name]",
)
@no_code_option
@rtol_option
@atol_option
@option(
    "--strict/--no-strict",
    under=Heading.HOW,
    default=False,
    help="Exit with code 3 if even one entry is unresolved.",
)
@timeout_option
@format_option(*FORMATS)
@reports_option
@show_option
@option("-q", "--quiet", under=Heading.OUTPUT, is_flag=True, help="Print one line.")
@option("-v", "--verbose", under=Heading.OUTPUT, is_flag=True, help="Also print what the columns mean.")
@color_option
def compare(
    first: str,
    second: str,
    only: tuple[str, ...],
    names: tuple[str, ...],
    no_code: bool,
    rtol: float | None,
    atol: float | None,
    strict: bool,
    timeout: float | None,
    format: str,
    reports: tuple[str, ...],
    show: int,
    quiet: bool,
    verbose: bool,
    color: str,
) -> int:
    """Compare the gradients in A with those in B, entry by entry; B is the reference.

    A and B are array files (.npz, .safetensors, or a folder of .npy) or specs. The gradients of a spec are
    computed or read as `gradcheck check` would. If the two differ and one is a spec, finite differences of
    its loss say which one is wrong.
    """
    from gradcheck_cli.report import Outcome, Run

    refuse_missing(format)
    start = perf_counter()
    files = report_files(reports, [])
    report = _compared((first, second), only, _pairs(names), (rtol, strict, atol or 0.0), (no_code, timeout))
    run = Run((Outcome(first, report, seconds=perf_counter() - start),))
    view = view_of(color, show, verbose - quiet)
    code = write_result(render(format, run, view), run.exit_code)
    add_to_summary({format, *(file.format for file in files)}, run, view)
    return write_reports(files, run, view, code)


def _pairs(names: Sequence[str]) -> dict[str, str]:
    pairs = [name.partition("=") for name in names]
    for this, equals, that in pairs:
        if not (this and equals and that):
            raise InputError(Complaint(f"--name must be THIS=THAT, not '{this}{equals}{that}'"))
    return {this: that for this, _, that in pairs}


def _compared(
    paths: tuple[str, str],
    only: Sequence[str],
    names: dict[str, str],
    how: tuple[float | None, bool, float],
    running: tuple[bool, float | None],
) -> Report:
    """Read two sources of gradients and compare them. If they differ, check each source that is a spec.

    how: the relative tolerance, whether to be strict, and the absolute tolerance.
    running: whether to refuse code, and the time limit.
    """
    from gradcheck_cli.compared.compare import arbitrated, compared
    from gradcheck_cli.compared.source import renamed

    no_code, timeout = running
    specs = [_spec(path, no_code) if path.endswith(_SPECS) else None for path in paths]
    first, second = (_read(path, spec, timeout) for path, spec in zip(paths, specs, strict=True))
    report = compared(renamed(first, names), second, only, *how)
    if report.passed:
        return report
    checks = {path: _check(spec, timeout) for path, spec in zip(paths, specs, strict=True) if spec}
    return arbitrated(report, checks)


def _spec(path: str, no_code: bool) -> SpecFile:
    from gradcheck_cli.spec.file import read_spec

    read = read_spec(path)
    with located(read, {}):
        if no_code:
            refuse_code(read.spec)
    return read


def _read(path: str, read: SpecFile | None, timeout: float | None) -> Source:
    from gradcheck_cli.compared.source import of_file, of_spec

    if read is None:
        return of_file(path)
    with located(read, {}):
        return run_apart(read.spec, timeout, of_spec, path, read.spec)


def _check(read: SpecFile, timeout: float | None) -> Report:
    from gradcheck_cli.checker import check

    with located(read, {}):
        return run_apart(read.spec, timeout, check, read.spec)
