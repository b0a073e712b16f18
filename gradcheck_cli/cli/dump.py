"""`gradcheck dump`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gradcheck_cli.cli.changes import changed, located
from gradcheck_cli.cli.completion import complete_files, complete_parameters, complete_specs
from gradcheck_cli.cli.options import EXIT_CODES_HELP, scheme_option, step_option
from gradcheck_cli.cli.progress import Progress
from gradcheck_cli.cli.terminal import say
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.view import wants_color


@click.command(epilog=EXIT_CODES_HELP, short_help="Write a spec's arrays and numerical gradients to files.")
@click.argument("spec", metavar="SPEC", shell_complete=complete_specs)
@click.option(
    "-o",
    "--output",
    required=True,
    allow_from_autoenv=False,
    shell_complete=complete_files,
    metavar="OUT",
    help="An .npz file, or a folder that gets one .npy file per array.",
)
@click.option(
    "--only",
    multiple=True,
    shell_complete=complete_parameters,
    metavar="PATTERN",
    help="Difference the parameters that match, e.g. 'output.*'.  [repeatable; default: the spec's]",
)
@scheme_option
@step_option
@click.option("--force", is_flag=True, allow_from_autoenv=False, help="Overwrite files of the same names.")
def dump(spec: str, output: str, force: bool, **changes: Any) -> int:
    """Write what SPEC consists of to OUT, so that code in any language can compute its gradients from it.

    That is every parameter by name, x, y, target (what the loss compares with), loss, and numerical.NAME and
    error.NAME, the numerical gradient and its error bar. If the spec's gradients come from a file, which need
    not exist, parameters bear the names and have the layout of that file.
    """
    from gradcheck_cli.dump import dump as arrays_of
    from gradcheck_cli.dump import refuse_taken, write
    from gradcheck_cli.spec_file import read_spec

    read, to = read_spec(spec), Path(output)
    refuse_taken(to, force)
    with located(read, changes), Progress(read.path, wants_color("auto", sys.stderr)) as progress:
        arrays = arrays_of(changed(read.spec, changes), progress)
    write(arrays, to, force)
    say(f"{read.path}: {len(arrays)} arrays written to {to}")
    return int(ExitCode.AGREES)
