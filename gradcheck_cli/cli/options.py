"""The options that several commands share, and the types of the options' values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import click

from gradcheck_cli.cli.completion import complete_files, complete_parameters, complete_reports
from gradcheck_cli.cli.grouped import Command, Heading, option
from gradcheck_cli.errors import InputError
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.spec.allowed import JOBS, RTOL, STEP, Order, Range
from gradcheck_cli.spec.code_sources import CODE_SOURCES, names_of_sources

EXIT_CODES_HELP = """\b
Exit codes:
  0    every checked gradient agrees
  1    some gradient is wrong
  2    the command line, a spec or an input file is invalid, or the code fails
  3    nothing wrong was found, but too little could be decided
  70   a bug in gradcheck
  130  interrupted
"""


def whole(allowed: Range) -> Whole:
    """Return the click type of whole numbers in the allowed range."""
    return Whole(*_ends(allowed))


def _ends(allowed: Range) -> tuple[int, int]:
    """Return the smallest and the largest whole number in the allowed range."""
    return int(allowed["ge"]), int(allowed["le"] if "le" in allowed else allowed["lt"] - 1)


def real(allowed: Range) -> Finite:
    """Return the click type of finite numbers in the allowed range."""
    high = allowed["le"] if "le" in allowed else allowed["lt"]
    readable = int(high) if high == int(high) else high  # click shows the range as it gets it: 0<x<=1
    return Finite(allowed["gt"], readable, min_open=True, max_open="lt" in allowed)


class Finite(click.FloatRange):
    """The click type of finite numbers in a range.

    click's own ranges accept NaN and, if they have no upper end, infinity. They call other words "not a valid
    float range".
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not _reads(float, value):
            self.fail(f"{value!r} is not a number.", param, ctx)
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Whole(click.IntRange):
    """The click type of whole numbers in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not _reads(int, value):
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return int(super().convert(value, param, ctx))


def _reads(kind: Callable[[Any], float], value: Any) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


class Jobs(click.IntRange):
    """The click type of a number of processes, the word auto, or the name of an engine (see `engine_of`)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        if not isinstance(value, str) or value.lstrip("-").isdigit():
            return super().convert(value, param, ctx)
        from gradcheck_cli.parallel.executors import named

        try:
            named(value)
        except InputError:
            self.fail(f"{value!r} is not a number, auto, dask, dask:ADDRESS or module:factory.", param, ctx)
        return value


# `allow_from_autoenv=False`: no variable or project may decide what is checked or which files are written.

# --- what to check -----------------------------------------------------------------------------------------

only_option = option(
    "--only",
    under=Heading.WHAT,
    multiple=True,
    metavar="PATTERN",
    shell_complete=complete_parameters,
    help="Select the parameters whose names match, such as 'output.*'.  "
    "[repeatable; default: the spec's setting]",
)
inputs_option = option(
    "--inputs/--no-inputs",
    under=Heading.WHAT,
    default=None,
    help="Also check the gradient with respect to x (shown as 'input' in the report).  "
    "[default: the spec's setting]",
)
order_option = option(
    "--order",
    under=Heading.WHAT,
    type=click.Choice([str(order) for order in get_args(Order)]),
    callback=lambda ctx, param, value: value and int(value),
    help="Order of the derivatives to check: 1 for gradients; 2 for gradients of gradients, too (code in "
    "torch or jax).  [default: the spec's setting]",
)
forward_mode_option = option(
    "--forward-mode/--no-forward-mode",
    under=Heading.WHAT,
    default=None,
    help="Also check forward-mode derivatives (jvp) for code in torch or jax.  [default: the spec's setting]",
)
batched_option = option(
    "--batched/--no-batched",
    under=Heading.WHAT,
    default=None,
    help="Also check backward for a batch of upstream gradients (is_grads_batched, vmap), in torch only.  "
    "[default: the spec's setting]",
)
gradients_option = option(
    "--gradients",
    under=Heading.WHAT,
    allow_from_autoenv=False,
    shell_complete=complete_files,
    metavar="FILE",
    help="Check the gradients in FILE, an .npz or .safetensors file or a folder of .npy files, instead of "
    "those of the spec.",
)


def code_options(command: Command) -> Command:
    """Declare an option, such as `--python`, for each row of `CODE_SOURCES`."""
    for source in reversed(CODE_SOURCES):
        command = option(
            f"--{source.key}",
            under=Heading.WHAT,
            allow_from_autoenv=False,
            shell_complete=complete_files,
            metavar="FILE.py:NAME",
            help=source.option,
        )(command)
    return command


no_code_option = option(
    "--no-code",
    under=Heading.WHAT,
    is_flag=True,
    help=f"Refuse specs that name code to run ({names_of_sources()}).",
)

# --- how to check ------------------------------------------------------------------------------------------

scheme_option = option(
    "--scheme",
    under=Heading.HOW,
    metavar="SCHEME",
    type=click.Choice(list(SCHEMES)),
    help=f"Difference scheme: {', '.join(SCHEMES)}.  [default: the spec's setting]",
)
step_option = option(
    "--step",
    under=Heading.HOW,
    metavar="STEP",
    type=real(STEP),
    help="Largest step of the scheme, measured as the change in a pre-activation.  "
    "[default: the scheme's own]",
)
rtol_option = option(
    "--rtol",
    under=Heading.HOW,
    metavar="RTOL",
    type=real(RTOL),
    help="Relative tolerance.  [default: 1e-6, or 16 eps of the gradient's dtype if that is larger]",
)
atol_option = option(
    "--atol",
    under=Heading.HOW,
    metavar="ATOL",
    type=Finite(min=0),
    help="Absolute tolerance. It can hide a mistake; the report counts the entries that agree only because "
    "of it.  [default: the spec's setting, or 0]",
)
jobs_option = option(
    "--jobs",
    under=Heading.HOW,
    metavar="N|auto|ENGINE",
    type=Jobs(*_ends(JOBS)),
    help="Use N worker processes for long work, or the machines of an engine: 'dask:tcp://host:8786', or "
    "'module:factory', a function that returns an Executor. Results do not depend on this.  "
    "[default: the spec's setting, or 1]",
)
timeout_option = option(
    "--timeout",
    under=Heading.HOW,
    metavar="SECONDS",
    type=Finite(min=0, min_open=True),
    help="Stop checking a spec after this time, with exit code 2.  [default: no limit]",
)

# --- output ------------------------------------------------------------------------------------------------

color_option = option(
    "--color",
    under=Heading.OUTPUT,
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="When to use color. NO_COLOR and FORCE_COLOR are respected.",
)

reports_option = option(
    "--report",
    "reports",
    under=Heading.OUTPUT,
    multiple=True,
    metavar="FORMAT=FILE",
    shell_complete=complete_reports,
    help="Also write the result to FILE in the format FORMAT, such as junit=report.xml.  [repeatable]",
)
show_option = option(
    "--show",
    under=Heading.OUTPUT,
    type=Whole(min=0),
    default=0,
    metavar="N",
    help="List the N worst entries.",
)


def format_option(*formats: str) -> Callable[[Command], Command]:
    """Return a decorator that declares the option `--format` with the given choices."""
    return option(
        "--format",
        "format",
        under=Heading.OUTPUT,
        metavar="FORMAT",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        help=f"Output format: {', '.join(formats)}.",
    )
