"""The command line: options → check → render → exit code.

Nothing heavy is imported until a command needs it: `--help` and `--version` load neither numpy nor pydantic.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gradcheck_cli import __version__
from gradcheck_cli.errors import Complaint, ExitCode, GradcheckError, InputError
from gradcheck_cli.formats import FORMATS, View, render, render_explanation
from gradcheck_cli.numerical.schemes import SCHEMES

if TYPE_CHECKING:
    from gradcheck_cli.report import Outcome
    from gradcheck_cli.spec import Spec

_EXIT_CODES = """\b
Exit codes:
  0    every checked gradient agrees
  1    some gradient is wrong
  2    the command line, a spec or an input file is wrong
  3    nothing wrong was found, but not enough could be decided
  70   a defect in gradcheck itself
  130  interrupted
"""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_CONTEXT, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="gradcheck")
def cli() -> None:
    """Is this backprop gradient right, and if not, which entry is wrong?"""


_color = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Color the output. NO_COLOR and FORCE_COLOR are honoured.",
)
_format = click.option(
    "--format",
    "format",
    type=click.Choice(list(FORMATS)),
    default="table",
    show_default=True,
    help="Output format.",
)
_gradients = click.option(
    "--gradients", metavar="FILE", help="Check the gradients of this .npz instead of those the spec names."
)
_scheme = click.option(
    "--scheme", type=click.Choice(list(SCHEMES)), help="Difference scheme.  [default: the spec's]"
)
_step = click.option(
    "--step",
    type=click.FloatRange(min=0, min_open=True),
    help="Step of the scheme, as the distance a pre-activation moves.",
)
_rtol = click.option(
    "--rtol",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    help="Relative tolerance.  [default: 1e-6, or 16 ε of the gradient's dtype]",
)


@cli.command(epilog=_EXIT_CODES)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--only", multiple=True, metavar="PATTERN", help="Check the parameters that match, e.g. 'output.*'."
)
@_scheme
@_step
@_rtol
@click.option(
    "--differences",
    type=click.Choice(["units", "literal"]),
    help="Move pre-activations (every entry for the price of the units), or each entry literally.",
)
@_gradients
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**32 - 1), help="Seed of the witness's random entries."
)
@click.option("--show", type=click.IntRange(min=0), default=0, metavar="N", help="List the N worst entries.")
@_format
@click.option("-q", "--quiet", is_flag=True, help="One line per spec.")
@click.option("-v", "--verbose", is_flag=True, help="Also tolerances, the witness and the time taken.")
@_color
def check(
    specs: tuple[str, ...], show: int, format: str, quiet: bool, verbose: bool, color: str, **changes: Any
) -> int:
    """Check the gradients of each SPEC: a YAML file, a folder of them, or - for standard input."""
    from gradcheck_cli.report import Run

    if not _finite(changes["step"]):
        raise click.BadParameter("the step must be finite", param_hint="--step")
    outcomes = []
    for path in _expand(specs):
        outcome = _check_one(path, changes)
        outcomes.append(outcome)
        for complaint in outcome.complaints:
            click.echo(_printable(str(complaint), sys.stderr), err=True)
    run = Run(tuple(outcomes))
    view = _view(color, show=show, level=verbose - quiet)
    return _write(render(format, run, view), run.exit_code)


@cli.command(epilog=_EXIT_CODES)
@click.argument("spec", metavar="SPEC")
@_scheme
@_step
@_rtol
@_gradients
@_format
@_color
def explain(spec: str, format: str, color: str, **changes: Any) -> int:
    """Derive the output layer's gradients of SPEC factor by factor, and check every factor.

    A gradient file may also hold the factors output.dL_da, output.da_dz, output.delta and output.dz_dw;
    they are then checked in place of ours.
    """
    from gradcheck_cli.explain import explain as derive
    from gradcheck_cli.spec_file import read_spec

    read = read_spec(spec)
    try:
        explanation = derive(_changed(read.spec, changes))
    except InputError as error:
        raise read.located(error) from None
    return _write(render_explanation(format, read.path, explanation, _view(color)), explanation.exit_code)


# --- one spec ----------------------------------------------------------------------------------------------


def _check_one(path: str, changes: dict[str, Any]) -> Outcome:
    """Read and check one spec; what is wrong with it is part of the outcome, so that the others go on."""
    from gradcheck_cli.check import check as check_spec
    from gradcheck_cli.report import Outcome
    from gradcheck_cli.spec_file import read_spec

    start = perf_counter()
    try:
        read = read_spec(path)
        try:
            with _Progress(path) as progress:
                report = check_spec(_changed(read.spec, changes), progress)
        except InputError as error:
            raise read.located(error) from None
    except InputError as error:
        return Outcome(path, complaints=error.complaints, seconds=perf_counter() - start)
    except GradcheckError as error:
        complaint = Complaint(f"{path}: {error}", help="this is a defect in gradcheck; please report it")
        return Outcome(path, complaints=(complaint,), failure=error.exit_code, seconds=perf_counter() - start)
    return Outcome(read.path, report, seconds=perf_counter() - start)


def _changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The spec with what the command line says instead. The options have been validated by click."""
    from gradcheck_cli.spec import GradientFile

    given = {key: value for key, value in changes.items() if value not in (None, ())}
    if "only" in given:
        given["parameters"] = given.pop("only")
    file = given.pop("gradients", None)
    update: dict[str, Any] = {"check": spec.check.model_copy(update=given)}
    if file is not None:
        update["gradients"] = GradientFile(file=Path(file))
    return spec.model_copy(update=update)


def _expand(arguments: Sequence[str]) -> Iterator[str]:
    """Files as they are; for a folder, every .yaml and .yml in it and below."""
    for argument in arguments:
        if not os.path.isdir(argument):
            yield argument
            continue
        found = sorted(
            str(path)
            for path in Path(argument).rglob("*")
            if path.suffix in (".yaml", ".yml") and not any(part.startswith(".") for part in path.parts[1:])
        )
        if not found:
            raise InputError(Complaint(f"there is no spec (.yaml or .yml) in folder '{argument}'"))
        yield from found


def _finite(step: float | None) -> bool:
    return step is None or step < float("inf")


# --- the terminal ------------------------------------------------------------------------------------------


def _view(color: str, show: int = 0, level: int = 0) -> View:
    return View(
        width=_width(),
        color=_wants_color(color),
        ascii=not (sys.stdout.encoding or "").lower().startswith("utf"),
        show=show,
        level=level,
    )


def _width() -> int | None:
    """The terminal's columns, or those COLUMNS names; off a terminal as many as it takes."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def _wants_color(color: str) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _printable(text: str, stream: Any) -> str:
    """The text with what the stream's encoding lacks replaced."""
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def _write(text: str, code: ExitCode) -> int:
    """Print the result whole, and keep its exit code even if nobody reads on (`| head`)."""
    try:
        sys.stdout.write(_printable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
    except OSError as error:
        _abandon_stdout()
        raise InputError(Complaint(f"cannot write the result: {error.strerror}")) from None
    return int(code)


def _abandon_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass
class _Progress:
    """A bar on stderr, on a terminal, once a check has taken longer than a second."""

    title: str
    patience: float = 1.0
    _expected: int = 0
    _done: int = 0
    _bar: Any = None
    _task: Any = None

    def __enter__(self) -> _Progress:
        self._start = monotonic()
        return self

    def expect(self, evaluations: int) -> None:
        self._expected += evaluations

    def advance(self, evaluations: int) -> None:
        self._done += evaluations
        if self._bar is None and sys.stderr.isatty() and monotonic() - self._start > self.patience:
            self._open()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, total=self._expected)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(os.path.basename(self.title), total=None)
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


# --- exit codes --------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command line. Translates every way out into an exit code, in this one place.

    click, a traceback and Ctrl-C all end with 1 by themselves, which here would mean a wrong gradient.
    """
    sys.exit(_run())


def _run() -> int:
    try:
        return _code_of(cli.main(prog_name="gradcheck", standalone_mode=False))
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return int(ExitCode.BAD_INPUT)
    except InputError as error:
        for complaint in error.complaints:
            click.echo(_printable(str(complaint), sys.stderr), err=True)
        return int(error.exit_code)
    except BrokenPipeError:  # --help | head
        _abandon_stdout()
        return int(ExitCode.AGREES)
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("error: this is a defect in gradcheck; please report it with the lines above", err=True)
        return int(ExitCode.DEFECT)


def _code_of(result: object) -> int:
    """What a command returned; click's own exits (--help, --version) come as 0, no command as None."""
    return result if isinstance(result, int) else int(ExitCode.AGREES)


def _interrupted() -> int:
    click.echo("interrupted", err=True)
    return int(ExitCode.INTERRUPTED)
