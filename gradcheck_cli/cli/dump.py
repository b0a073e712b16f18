"""`gradcheck dump`: write the arrays of a spec for programs in other languages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.cli.changes import changed, located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_files, complete_specs
from gradcheck_cli.cli.grouped import GroupedCommand, Heading, option
from gradcheck_cli.cli.options import (
    inputs_option,
    no_code_option,
    only_option,
    scheme_option,
    step_option,
)
from gradcheck_cli.cli.progress import Progress
from gradcheck_cli.cli.terminal import say
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.view import wants_color

if TYPE_CHECKING:
    from gradcheck_cli.spec.spec import Spec


_EXIT_CODES = """\b
Exit codes:
  0    the arrays are written
  2    the command line, a spec or an input file is invalid, or the code fails
  70   a bug in gradcheck
  130  interrupted
"""


@click.command(
    cls=GroupedCommand,
    epilog=_EXIT_CODES,
    short_help="Write a spec's arrays and numerical gradients to files.",
)
@click.argument("spec", metavar="SPEC", shell_complete=complete_specs)
@option(
    "-o",
    "--output",
    under=Heading.OUTPUT,
    required=True,
    allow_from_autoenv=False,
    shell_complete=complete_files,
    metavar="OUT",
    help="The .npz file to write, or a folder that gets one .npy file per array.",
)
@only_option
@inputs_option
@scheme_option
@step_option
@no_code_option
@option(
    "--force",
    under=Heading.OUTPUT,
    is_flag=True,
    allow_from_autoenv=False,
    help="Overwrite files with the same names.",
)
def dump(spec: str, output: str, no_code: bool, force: bool, **changes: Any) -> int:
    """Write the arrays of SPEC to OUT, so that code in any language can compute its gradients from them.

    OUT gets every parameter under its name; x, y, target (what the loss compares the output with) and loss;
    the masks of dropout and attention, as LAYER.mask, LAYER.attn_mask and LAYER.key_padding_mask; and, for
    each checked parameter, its numerical gradient and error bar, as numerical.NAME and error.NAME. If the
    spec's gradients come from a file, the parameters have the names and the layout of that file, which need
    not exist yet.
    """
    from gradcheck_cli.dump import refuse_taken, write
    from gradcheck_cli.files.output import Output
    from gradcheck_cli.spec.file import read_spec

    read, to = read_spec(spec), Output("--output", str(Path(output)))
    refuse_taken(to, force)
    with located(read, changes):
        spec_now = changed(read.spec, changes)
        if no_code and spec_now.asks_code:
            refuse_code(spec_now)
        bar = Progress(read.path, wants_color("auto", sys.stderr))
        arrays = run_apart(spec_now, None, _arrays, spec_now, bar)
    write(arrays, to, force)
    say(f"{read.path}: {len(arrays)} arrays written to {to.path}")
    return int(ExitCode.AGREES)


def _arrays(spec: Spec, bar: Progress) -> Any:
    from gradcheck_cli.dump import dump as arrays_of

    with bar as progress:
        return arrays_of(spec, progress)
