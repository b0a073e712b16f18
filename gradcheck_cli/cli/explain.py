"""`gradcheck explain`: derive gradients by the chain rule, and check each factor."""

from __future__ import annotations

from typing import Any

import click

from gradcheck_cli.cli.changes import changed, located, refuse_code, run_apart
from gradcheck_cli.cli.completion import complete_layers, complete_specs
from gradcheck_cli.cli.grouped import GroupedCommand, Heading, option
from gradcheck_cli.cli.options import (
    EXIT_CODES_HELP,
    color_option,
    format_option,
    gradients_option,
    no_code_option,
    rtol_option,
    scheme_option,
    step_option,
    timeout_option,
)
from gradcheck_cli.cli.terminal import write_result
from gradcheck_cli.formats import RENDERERS, render
from gradcheck_cli.formats.view import view_of


@click.command(
    cls=GroupedCommand,
    epilog=EXIT_CODES_HELP,
    short_help="Derive the gradients layer by layer and check each factor.",
)
@click.argument("spec", metavar="SPEC", shell_complete=complete_specs)
@option(
    "--layer",
    under=Heading.WHAT,
    metavar="NAME",
    default="",
    shell_complete=complete_layers,
    allow_from_autoenv=False,
    help="Show the full derivation of this layer.  [default: every layer that the spec checks, in brief]",
)
@scheme_option
@step_option
@rtol_option
@gradients_option
@no_code_option
@timeout_option
@format_option(*RENDERERS["Explanation"])
@color_option
def explain(
    spec: str, layer: str, no_code: bool, timeout: float | None, format: str, color: str, **changes: Any
) -> int:
    """Derive the gradients of SPEC layer by layer, factor by factor, and check every factor.

    SPEC is a YAML file, or - for standard input. If it checks several layers, each is shown in a few lines;
    --layer shows one layer in full, with numbers for one entry. If the gradient file contains factors, such
    as output.dL_da, output.da_dz, output.delta and output.dz_dw, they are checked instead of gradcheck's own.
    """
    from gradcheck_cli.explain.explain import explain as derive
    from gradcheck_cli.spec.file import read_spec

    read = read_spec(spec)
    with located(read, changes):
        spec_now = changed(read.spec, changes)
        if no_code:
            refuse_code(spec_now)
        explanation = run_apart(spec_now, timeout, derive, spec_now, layer)
    return write_result(render(format, explanation, view_of(color), read.path), explanation.exit_code)
