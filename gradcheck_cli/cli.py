"""The command line: options → check → render → exit code.

Nothing heavy is imported until a command needs it: `--help` and `--version` load neither numpy nor pydantic.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from gradcheck_cli import __version__
from gradcheck_cli.errors import Complaint, ExitCode, InputError, UntrustedReferenceError
from gradcheck_cli.formats import FORMATS, View, render, render_explanation
from gradcheck_cli.formats.glyphs import to_ascii
from gradcheck_cli.numerical.schemes import SCHEMES

if TYPE_CHECKING:
    from gradcheck_cli.report import Outcome
    from gradcheck_cli.spec import Code, GradientFile, Model, Spec
    from gradcheck_cli.spec_file import SpecFile

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


@click.group(
    context_settings=_CONTEXT,
    epilog=_EXIT_CODES,
    subcommand_metavar="COMMAND [ARGS]...",
    invoke_without_command=True,
    no_args_is_help=False,
)
@click.version_option(__version__, prog_name="gradcheck")
@click.pass_context
def cli(context: click.Context) -> None:
    """Is this backprop gradient right, and if not, which entry is wrong?"""
    if context.invoked_subcommand is None:
        _say(context.get_help())
        context.exit(ExitCode.BAD_INPUT)


class _Finite(click.FloatRange):
    """click's ranges let NaN through, and one without an upper end infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class _OrAuto(click.IntRange):
    """A number in a range, or the word auto."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


_color = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Color the output; NO_COLOR and FORCE_COLOR are honoured.",
)
_format = click.option(
    "--format",
    "format",
    type=click.Choice(list(FORMATS)),
    default="table",
    show_default=True,
    help="How to print the result.",
)
_gradients = click.option(
    "--gradients",
    metavar="FILE",
    help="Check the gradients in this .npz, .safetensors or folder of .npy instead of those the spec names.",
)
_python = click.option(
    "--python",
    metavar="FILE.py:NAME",
    help="Check the gradients of this function, (parameters, x, y) -> loss, gradients, against its own loss.",
)
_torch = click.option(
    "--torch",
    metavar="FILE.py:NAME",
    help="Check the backward pass of the torch module that this function returns, with a loss.",
)
_no_code = click.option(
    "--no-code", is_flag=True, help="Refuse specs that name code to run (Python or torch)."
)
_scheme = click.option(
    "--scheme", type=click.Choice(list(SCHEMES)), help="Difference scheme.  [default: the spec's]"
)
_step = click.option(
    "--step",
    metavar="STEP",
    type=_Finite(min=0, max=1, min_open=True),
    help="Largest step of the scheme: how far a pre-activation moves.  [default: the scheme's]",
)
_rtol = click.option(
    "--rtol",
    metavar="RTOL",
    type=_Finite(min=0, max=1, min_open=True, max_open=True),
    help="Relative tolerance.  [default: 1e-6, or 16 eps of the gradient's dtype if larger]",
)


@cli.command(epilog=_EXIT_CODES, short_help="Check the gradients of specs.")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Check the parameters that match, e.g. 'output.*'.  [repeatable; default: the spec's]",
)
@_scheme
@_step
@_rtol
@click.option(
    "--differences",
    type=click.Choice(["units", "literal"]),
    help="Move the units' pre-activations, which serves every entry, or each entry by itself, which is slow. "
    "literal moves every entry of code, too, however long it takes.  [default: the spec's]",
)
@click.option(
    "--fast",
    is_flag=True,
    default=None,
    help="Difference code (Python or torch) along random directions, and only what disagrees by entries; as "
    "happens by itself where the entries take over 10 s. Networks of our own are as fast without it.  "
    "[default: the spec's]",
)
@click.option(
    "--jobs",
    metavar="N|auto",
    type=_OrAuto(min=1, max=1024),
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
@_gradients
@_python
@_torch
@_no_code
@click.option(
    "--strict",
    is_flag=True,
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
@_format
@click.option("-q", "--quiet", is_flag=True, help="One line per spec.")
@click.option("-v", "--verbose", is_flag=True, help="Also tolerances, the witness and the time taken.")
@_color
def check(
    specs: tuple[str, ...],
    show: int,
    format: str,
    quiet: bool,
    verbose: bool,
    color: str,
    no_code: bool,
    **changes: Any,
) -> int:
    """Check the gradients of each SPEC: a YAML file, a folder of them, or - for standard input."""
    from gradcheck_cli.report import Run

    outcomes = []
    for path in _expand(specs):
        outcome = _check_one(path, changes, no_code, _wants_color(color, sys.stderr))
        outcomes.append(outcome)
        _complain(*outcome.complaints)
    run = Run(tuple(outcomes))
    return _write(render(format, run, _view(color, show=show, level=verbose - quiet)), run.exit_code)


@cli.command(epilog=_EXIT_CODES, short_help="Derive the output layer's gradients, checking every factor.")
@click.argument("spec", metavar="SPEC")
@_scheme
@_step
@_rtol
@_gradients
@_format
@_color
def explain(spec: str, format: str, color: str, **changes: Any) -> int:
    """Derive the output layer's gradients of SPEC factor by factor, and check every factor.

    SPEC is a YAML file, or - for standard input. A gradient file may also hold the factors output.dL_da,
    output.da_dz, output.delta and output.dz_dw; they are then checked in place of ours.
    """
    from gradcheck_cli.explain import explain as derive
    from gradcheck_cli.spec_file import read_spec

    read = read_spec(spec)
    with _located(read, changes):
        explanation = derive(_changed(read.spec, changes))
    return _write(render_explanation(format, read.path, explanation, _view(color)), explanation.exit_code)


@cli.command(epilog=_EXIT_CODES, short_help="Write a spec's arrays and numerical gradients to files.")
@click.argument("spec", metavar="SPEC")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="An .npz file, or a folder that gets one .npy file per array.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Difference the parameters that match, e.g. 'output.*'.  [repeatable; default: the spec's]",
)
@_scheme
@_step
@click.option("--force", is_flag=True, help="Overwrite files of the same names.")
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
    with _located(read, changes), _Progress(read.path, _wants_color("auto", sys.stderr)) as progress:
        arrays = arrays_of(_changed(read.spec, changes), progress)
    write(arrays, to, force)
    _say(f"{read.path}: {len(arrays)} arrays written to {to}")
    return int(ExitCode.AGREES)


# --- one spec ----------------------------------------------------------------------------------------------


def _check_one(path: str, changes: dict[str, Any], no_code: bool, color: bool) -> Outcome:
    """Read and check one spec; what is wrong with it is part of the outcome, so that the others go on."""
    from gradcheck_cli.checker import check as check_spec
    from gradcheck_cli.report import Outcome
    from gradcheck_cli.spec_file import read_spec

    start, name = perf_counter(), "<stdin>" if path == "-" else path

    def failed(code: ExitCode, *complaints: Complaint) -> Outcome:
        return Outcome(name, complaints=complaints, failure=code, seconds=perf_counter() - start)

    try:
        _refuse_empty_folder(path)
        read = read_spec(path)
        with _located(read, changes), _Progress(name, color) as progress:
            spec = _changed(read.spec, changes)
            if no_code and spec.names_code:
                raise _refused(spec.names_code)
            report = check_spec(spec, progress)
    except InputError as error:
        return failed(error.exit_code, *error.complaints)
    except UntrustedReferenceError as error:
        return failed(error.exit_code, Complaint(f"{name}: {error}", help=_DEFECT))
    except Exception:
        _print_traceback()
        return failed(ExitCode.DEFECT, Complaint(f"{name}: gradcheck failed, see above", help=_DEFECT))
    return Outcome(name, report, seconds=perf_counter() - start)


def _refuse_empty_folder(path: str) -> None:
    if os.path.isdir(path):  # any other folder has been replaced by what is in it
        raise InputError(Complaint(f"there is no spec (.yaml or .yml) in folder '{path}'"))


def _refused(code: Code) -> InputError:
    message = f"this runs {code}, and --no-code refuses to run anything"
    return InputError(Complaint(message, ("gradients",)))


_OVERRIDES = {
    "only": ("check", "parameters"),
    "gradients": ("gradients", "file"),
    "python": ("gradients", "python"),
    "torch": ("gradients", "torch"),
}
"""The options whose value can be wrong for a spec, and the place in the spec that they stand for."""


@contextmanager
def _located(read: SpecFile, changes: dict[str, Any]) -> Iterator[None]:
    """Give the complaints raised inside their places in the file, or the option that overrides it."""
    try:
        yield
    except InputError as error:
        raise InputError(*(_blame(complaint, read, changes) for complaint in error.complaints)) from None
    except MemoryError as error:
        raise InputError(Complaint(f"{read.path}: out of memory; {error}".rstrip("; "))) from None
    except (SystemExit, EOFError, BrokenPipeError) as error:  # to click a wish to end, and with which code
        raise RuntimeError(f"{type(error).__name__} in the midst of a check") from error


def _blame(complaint: Complaint, read: SpecFile, changes: dict[str, Any]) -> Complaint:
    for option, place in _OVERRIDES.items():
        if changes.get(option) not in (None, ()) and complaint.where[: len(place)] == place:
            return replace(complaint, where=(), message=f"{read.path}: --{option}: {complaint.message}")
    return read.located(InputError(complaint)).complaints[0]


def _changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The spec with what the command line says instead. The options have been validated by click."""
    from gradcheck_cli.spec import PythonFunction, TorchModule

    given = {key: value for key, value in changes.items() if value not in (None, ())}
    if "only" in given:
        given["parameters"] = given.pop("only")
    sources: dict[str, Any] = {
        "gradients": lambda file: _of_file(spec, Path(file)),
        "python": lambda name: _of_code(spec, PythonFunction, python=_code("python", name)),
        "torch": lambda name: _of_code(spec, TorchModule, torch=_code("torch", name)),
    }
    named = [option for option in sources if option in given]
    if len(named) > 1:
        raise InputError(Complaint(f"--{named[0]} and --{named[1]}: only one of them can be checked"))
    replaced = [sources[option](given.pop(option)) for option in named]
    update: dict[str, Any] = {"check": spec.check.model_copy(update=given)}
    if replaced:
        update["gradients"] = replaced[0]
    return spec.model_copy(update=update)


def _of_file(spec: Spec, file: Path) -> GradientFile:
    """The file, in the names and layout of the one it takes the place of."""
    from gradcheck_cli.spec import GradientFile

    theirs = spec.gradients if isinstance(spec.gradients, GradientFile) else GradientFile(file=file)
    return theirs.model_copy(update={"file": file})


def _of_code(spec: Spec, kind: type[Model], **code: Code) -> Model:
    """The code, vectorized if that which it takes the place of is."""
    return spec.gradients.model_copy(update=code) if isinstance(spec.gradients, kind) else kind(**code)


def _code(option: str, name: str) -> Code:
    from gradcheck_cli.spec import code_of

    code = code_of(name, Path())
    if code is None:
        raise InputError(Complaint(f"--{option} must be FILE.py:NAME, not '{name}'"))
    return code


def _expand(arguments: Sequence[str]) -> Iterator[str]:
    """Files as they are; for a folder, every .yaml and .yml in it and below, but nothing hidden."""
    for argument in arguments:
        found = _specs_in(Path(argument)) if os.path.isdir(argument) else []
        yield from found or [argument]


def _specs_in(folder: Path) -> list[str]:
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if path.suffix in (".yaml", ".yml")
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


# --- the terminal ------------------------------------------------------------------------------------------


def _view(color: str, show: int = 0, level: int = 0) -> View:
    return View(
        width=_width(),
        color=_wants_color(color, sys.stdout),
        ascii=_ascii_only(sys.stdout),
        show=show,
        level=level,
    )


def _width() -> int | None:
    """The terminal's columns, or those COLUMNS names; off a terminal as many as it takes."""
    named = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (named.isdecimal() and named.strip("0")):
        return None
    return shutil.get_terminal_size().columns


def _wants_color(color: str, stream: TextIO) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _ascii_only(stream: TextIO) -> bool:
    """Is the stream's encoding less than Unicode, or the locale C by name?

    Python takes the C locale for UTF-8, and may have said so in LC_CTYPE by itself.
    """
    if not (stream.encoding or "").lower().startswith("utf"):
        return True
    environ = os.environ
    coerced = environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    character_type = "" if coerced else environ.get("LC_CTYPE")
    return (environ.get("LC_ALL") or character_type or environ.get("LANG")) in ("C", "POSIX")


def _printable(text: str, stream: TextIO) -> str:
    """The text with what the stream cannot show spelt out or replaced."""
    text = to_ascii(text) if _ascii_only(stream) else text
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
        return _unwritable(error)
    return int(code)


def _unwritable(error: OSError) -> int:
    _abandon_stdout()
    _complain(Complaint(f"cannot write the result: {error.strerror or error}"))
    return int(ExitCode.BAD_INPUT)


def _complain(*complaints: Complaint) -> None:
    for complaint in complaints:
        _say(str(complaint))


def _say(text: str) -> None:
    """A line on stderr; if nobody is there to read it, the exit code still tells."""
    with suppress(OSError):
        print(_printable(text, sys.stderr), file=sys.stderr, flush=True)


def _print_traceback() -> None:
    import traceback

    _say(traceback.format_exc().rstrip())


def _abandon_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass
class _Progress:
    """A bar on stderr, on a terminal, once a check has taken longer than a second."""

    title: str
    color: bool = False
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
        from rich.progress import BarColumn, Progress, ProgressColumn, Task
        from rich.text import Text

        patience = self.patience

        class Rate(ProgressColumn):
            """rich's own starts anew whenever more is expected."""

            def render(self, task: Task) -> Text:
                per_second = task.completed / ((task.elapsed or 0.0) + patience)
                left = (task.remaining or 0.0) / max(per_second, 1e-9)
                return Text(f"{left:,.0f} s left, {per_second:,.0f} evaluations/s", "progress.remaining")

        title_column, _, percentage, *_ = Progress.get_default_columns()
        columns: tuple[ProgressColumn, ...] = (title_column, BarColumn(20), percentage, Rate())  # fits 80
        if _ascii_only(sys.stderr):
            columns = tuple(column for column in columns if not isinstance(column, BarColumn))
        console = Console(stderr=True, no_color=not self.color, markup=False)
        self._bar = Progress(*columns, console=console, transient=True)
        title = _printable(os.path.basename(self.title), sys.stderr)
        title = title.replace("[", r"\[")  # the column reads markup
        self._task = self._bar.add_task(title, total=None)
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


# --- exit codes --------------------------------------------------------------------------------------------


_DEFECT = "this is a defect in gradcheck; please report it"
_WRITE_FAILURES = (errno.EBADF, errno.EIO, errno.ENOSPC)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line. Translates every way out into an exit code, in this one place.

    click, a traceback and Ctrl-C all end with 1 by themselves, which here would mean a wrong gradient.
    """
    _open_closed_streams()
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return int(cli.main(arguments, prog_name="gradcheck", standalone_mode=False) or 0)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except click.ClickException as error:
        _say(_usage(error))
        return int(ExitCode.BAD_INPUT)
    except InputError as error:
        _complain(*error.complaints)
        return int(error.exit_code)
    except SystemExit:  # click's own, when nobody reads `--help` to its end
        _abandon_stdout()
        return int(ExitCode.AGREES)
    except OSError as error:
        return _unwritable(error) if error.errno in _WRITE_FAILURES else _defect()
    except Exception:
        return _defect()


def _usage(error: click.ClickException) -> str:
    """click's message in the form of our own: what is wrong, and where to read on."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "gradcheck"
    return f"error: {error.format_message()}\n      = help: see {command} --help"


def _defect() -> int:
    _print_traceback()
    _complain(Complaint("gradcheck failed, see above", help=_DEFECT))
    return int(ExitCode.DEFECT)


def _open_closed_streams() -> None:
    """A stream the caller has closed (`>&-`) is None in Python; a null device in its place takes anything."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until exit
