"""The options that several commands have, and what their values may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gradcheck_cli.cli.completion import complete_files
from gradcheck_cli.numerical.schemes import SCHEMES

EXIT_CODES_HELP = """\b
Exit codes:
  0    every checked gradient agrees
  1    some gradient is wrong
  2    the command line, a spec or an input file is wrong
  3    nothing wrong was found, but not enough could be decided
  70   a defect in gradcheck itself
  130  interrupted
"""


class Finite(click.FloatRange):
    """click's ranges let NaN through, and one without an upper end infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class OrAuto(click.IntRange):
    """A number in a range, or the word auto."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Color the output; NO_COLOR and FORCE_COLOR are honoured.",
)


Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(*formats: str) -> Callable[[Command], Command]:
    return click.option(
        "--format",
        "format",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        help="How to print the result.",
    )


# `allow_from_autoenv=False`: neither a variable nor a project says what is checked, or what is written where.
gradients_option = click.option(
    "--gradients",
    allow_from_autoenv=False,
    shell_complete=complete_files,
    metavar="FILE",
    help="Check the gradients in this .npz, .safetensors or folder of .npy instead of those the spec names.",
)
python_option = click.option(
    "--python",
    allow_from_autoenv=False,
    shell_complete=complete_files,
    metavar="FILE.py:NAME",
    help="Check the gradients of this function, (parameters, x, y) -> loss, gradients, against its own loss.",
)
torch_option = click.option(
    "--torch",
    allow_from_autoenv=False,
    shell_complete=complete_files,
    metavar="FILE.py:NAME",
    help="Check the backward pass of the torch module that this function returns, with a loss.",
)
no_code_option = click.option(
    "--no-code", is_flag=True, help="Refuse specs that name code to run (Python or torch)."
)
scheme_option = click.option(
    "--scheme", type=click.Choice(list(SCHEMES)), help="Difference scheme.  [default: the spec's]"
)
step_option = click.option(
    "--step",
    metavar="STEP",
    type=Finite(min=0, max=1, min_open=True),
    help="Largest step of the scheme: how far a pre-activation moves.  [default: the scheme's]",
)
timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=Finite(min=0, min_open=True),
    help="Give up on a spec that has no verdict after SECONDS, with exit code 2.  [default: no limit]",
)
rtol_option = click.option(
    "--rtol",
    metavar="RTOL",
    type=Finite(min=0, max=1, min_open=True, max_open=True),
    help="Relative tolerance.  [default: 1e-6, or 16 eps of the gradient's dtype if larger]",
)
