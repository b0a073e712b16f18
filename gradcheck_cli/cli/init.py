"""`gradcheck init`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gradcheck_cli.cli.completion import complete_files
from gradcheck_cli.cli.schema import schema_text
from gradcheck_cli.cli.terminal import say, write_result
from gradcheck_cli.errors import Complaint, ExitCode, InputError
from gradcheck_cli.starters import SCHEMA_FILE, STARTERS, starter


@click.command(short_help="Write a spec to start from.")
@click.argument("file", metavar="[FILE]", default="net.yaml", shell_complete=complete_files)
@click.option(
    "--source",
    allow_from_autoenv=False,
    type=click.Choice(list(STARTERS)),
    help="Whose gradients are to be checked.  [default: asked for on a terminal, else backprop]",
)
def init(file: str, source: str | None) -> int:
    """Write a spec with comments to FILE (net.yaml), or with - to standard output.

    Beside it goes the JSON Schema by which an editor completes and checks it, unless there is one already.
    Nothing is overwritten. The spec of backprop runs as it is; the others say which files they need.
    """
    source = source or (_ask() if _on_terminal() else "backprop")
    text = starter(source)
    if file == "-":
        return write_result(text, ExitCode.AGREES)
    spec, schema = Path(file), Path(file).with_name(SCHEMA_FILE)
    if not _write_new(spec, text):
        another = f"another name, as in `gradcheck init {spec.with_stem(spec.stem + '2').name}`"
        raise InputError(Complaint(f"'{spec}' is there already, and stays as it is", help=another))
    try:
        told = _write_new(schema, schema_text())
    except InputError:
        spec.unlink()
        raise
    say(f"{spec} written{f', and {schema} for editors' if told else ''}")
    say(f"next: {'' if source == 'backprop' else 'fill it in, then '}gradcheck check {spec}")
    return int(ExitCode.AGREES)


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask() -> str:
    say("Whose gradients are to be checked?")
    for name, what in STARTERS.items():
        say(f"  {name:8}  {what}")
    try:
        answer: str = click.prompt("Source", type=click.Choice(list(STARTERS)), default="backprop", err=True)
    except click.Abort:
        say("")  # behind the ^C
        raise
    return answer


def _write_new(file: Path, text: str) -> bool:
    """Write the whole text or nothing to a file that is not there yet; one that is there stays as it is."""
    try:
        stream = open(file, "x", encoding="ascii")  # noqa: SIM115 - only what comes after it leaves a file
    except FileExistsError:
        return False
    except OSError as error:
        raise _unwritable(file, error) from None
    try:
        with stream:
            stream.write(text)
    except OSError as error:
        file.unlink()
        raise _unwritable(file, error) from None
    return True


def _unwritable(file: Path, error: OSError) -> InputError:
    return InputError(Complaint(f"'{file}' cannot be written: {error.strerror or error}"))
