"""`gradcheck init`: write a spec to start from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from gradcheck_cli.cli.completion import complete_files
from gradcheck_cli.cli.schema import schema_text
from gradcheck_cli.cli.terminal import say, write_result
from gradcheck_cli.errors import Complaint, ExitCode, InputError
from gradcheck_cli.starters import CODE_FILE, SCHEMA_FILE, STARTERS, starter, starter_code


@click.command(short_help="Write a spec to start from.")
@click.argument("file", metavar="[FILE]", default="net.yaml", shell_complete=complete_files)
@click.option(
    "--source",
    allow_from_autoenv=False,
    type=click.Choice(list(STARTERS)),
    help="Where the gradients come from.  [default: asked for on a terminal, else backprop]",
)
def init(file: str, source: str | None) -> int:
    """Write a commented spec to FILE (default: net.yaml), or to standard output with -.

    If the spec checks code, the code goes to my_net.py: a runnable demo, to be replaced by yours. The JSON
    Schema for your editor goes to a third file. Existing files are never overwritten.
    """
    source = source or (_ask() if _on_terminal() else "backprop")
    text, row = starter(source), STARTERS[source]
    if file == "-":
        return write_result(text, ExitCode.AGREES)
    spec = Path(file)
    code, schema = spec.with_name(CODE_FILE), spec.with_name(SCHEMA_FILE)
    code_files = {code: starter_code(source)} if row.has_code else {}
    written = _write_all(spec, {spec: text, **code_files, schema: schema_text()})
    for new in written:
        say(f"{new} written{', for editors' if new == schema else ''}")
    for old in code_files.keys() - set(written):
        say(f"{old} {_KEPT}")
    program = f"python {code} && " if row.is_run else ""
    say(f"next: {program}gradcheck check {spec}")
    return int(ExitCode.AGREES)


_KEPT = "already exists; not overwritten"


def _write_all(spec: Path, texts: Mapping[Path, str]) -> list[Path]:
    """Write the spec, and the other files unless they exist. If one cannot be written, none is."""
    written: list[Path] = []
    try:
        for file, text in texts.items():
            written += [file] * _write_new(file, text)
            if not written:
                another = f"another name, as in `gradcheck init {spec.with_stem(spec.stem + '2').name}`"
                raise InputError(Complaint(f"'{spec}' {_KEPT}", help=another))
    except InputError:
        for new in written:
            new.unlink()
        raise
    return written


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask() -> str:
    say("What do you want to check?")
    for name, row in STARTERS.items():
        say(f"  {name:8}  {row.what}")
    try:
        answer: str = click.prompt("Source", type=click.Choice(list(STARTERS)), default="backprop", err=True)
    except click.Abort:
        say("")  # ends the line of ^C
        raise
    return answer


def _write_new(file: Path, text: str) -> bool:
    """Write the text to a new file, whole or not at all. Return False if the file exists."""
    try:
        stream = open(file, "x", encoding="ascii")  # noqa: SIM115 - opening and writing fail differently
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
