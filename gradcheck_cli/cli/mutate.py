"""`gradcheck mutate`: plant mistakes, and see whether the check catches them."""

from __future__ import annotations

import sys
from typing import Any

import click

from gradcheck_cli.cli.changes import changed, executor_of, located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_specs
from gradcheck_cli.cli.grouped import GroupedCommand, Heading, option
from gradcheck_cli.cli.options import (
    Whole,
    color_option,
    format_option,
    jobs_option,
    no_code_option,
    only_option,
)
from gradcheck_cli.cli.progress import Progress
from gradcheck_cli.cli.terminal import DEFECT, complain, say, write_result
from gradcheck_cli.errors import Complaint, UntrustedReferenceError
from gradcheck_cli.formats import RENDERERS, render
from gradcheck_cli.formats.view import view_of, wants_color

_EXIT_CODES = """\b
Exit codes:
  0    every visible mistake is caught
  1    a visible mistake passes
  2    the command line, a spec or an input file is invalid, or the code fails
  3    a visible mistake is left undecided, or no mistake is visible
  70   a bug in gradcheck
  130  interrupted; the result covers the mistakes checked so far
"""


@click.command(
    cls=GroupedCommand,
    epilog=_EXIT_CODES,
    short_help="Plant mistakes, and see whether they are caught and named.",
)
@click.argument("spec", metavar="SPEC", shell_complete=complete_specs)
@only_option
@option(
    "--sample",
    under=Heading.WHAT,
    metavar="N",
    type=Whole(min=1),
    allow_from_autoenv=False,
    help="Plant N mistakes, drawn at random: one of each kind, then a second of each kind, and so on.  "
    "[default: all, or 100 if some layer is neither dense nor a convolution]",
)
@jobs_option
@no_code_option
@format_option(*RENDERERS["Mutation"])
@option(
    "-v",
    "--verbose",
    under=Heading.OUTPUT,
    is_flag=True,
    help="Also list the kinds of which every mistake is caught and named.",
)
@color_option
def mutate(
    spec: str, sample: int | None, no_code: bool, format: str, verbose: bool, color: str, **changes: Any
) -> int:
    """Plant every known mistake in gradcheck's own backprop for SPEC, and show which are caught and named.

    The result shows what a check of this spec is worth. A mistake that makes no difference on these data
    cannot be caught; the table says which data would reveal it. A visible mistake that passes leads to exit
    code 1. The gradients that the spec names are not used.
    """
    from gradcheck_cli.mutate.mutate import mutate as plant_mistakes
    from gradcheck_cli.mutate.mutate import to_mutate
    from gradcheck_cli.spec.file import read_spec

    read = read_spec(spec)
    try:
        bar = Progress(read.path, wants_color(color, sys.stderr), noun="mistakes")
        with located(read, changes):
            spec_now = changed(read.spec, changes)
            if no_code and spec_now.asks_code:
                refuse_code(spec_now)
            executor = executor_of(spec_now, changes, no_code)
            spec_now, own = run_apart(spec_now, None, to_mutate, spec_now)
            with bar as progress:
                mutation = plant_mistakes(spec_now, progress, sample, own, executor=executor)
    except UntrustedReferenceError as error:
        complain(Complaint(f"{read.path}: {error}", help=DEFECT))
        return int(error.exit_code)
    if mutation.interrupted:
        say("", f"interrupted: {len(mutation.mutants)} of {mutation.planned} mistakes were checked")
    return write_result(
        render(format, mutation, view_of(color, level=int(verbose)), read.path), mutation.exit_code
    )
