"""`gradcheck init`: write a starter spec."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

import click

from gradcheck_cli.cli.completion import complete_files
from gradcheck_cli.cli.schema import schema_text
from gradcheck_cli.cli.terminal import say, write_result
from gradcheck_cli.errors import Complaint, ExitCode, InputError
from gradcheck_cli.spec.starters import CODE_FILE, SCHEMA_FILE, STARTERS, starter, starter_code


@click.command(short_help="Write a spec to start from.")
@click.argument("file", metavar="[FILE]", default="net.yaml", shell_complete=complete_files)
@click.option(
    "--source",
    allow_from_autoenv=False,
    type=click.Choice(list(STARTERS)),
    help="Where the gradients come from.  [default: asks on a terminal, otherwise backprop]",
)
def init(file: str, source: str | None) -> int:
    """Write a commented spec to FILE (by default net.yaml), or to standard output if FILE is -.

    The code that the spec names goes into my_net.py, or into another file if that one exists. The JSON
    Schema, with which an editor completes and checks the spec, goes into a separate file. The spec runs as it
    is; replace the code with yours. No file is overwritten.
    """
    source = source or (_ask() if _on_terminal() else "backprop")
    text, row = starter(source), STARTERS[source]
    if file == "-":
        return write_result(text, ExitCode.AGREES)
    spec = Path(file)
    code, schema = spec.with_name(CODE_FILE), spec.with_name(SCHEMA_FILE)
    code_files = {}
    if row.has_code:
        taken, code = code, _free(code, starter_code(source))
        code_files[code] = starter_code(source)
        text = text.replace(CODE_FILE, code.name)
    written = _write_all(spec, {spec: text, **code_files, schema: schema_text()})
    if row.has_code and code != taken:
        say(f"{taken} {_KEPT}; the spec names {code}")
    for new in written:
        say(f"{new} written{', for editors' if new == schema else ''}")
    program = f"python {code} && " if row.is_run else ""
    say(f"next: {program}gradcheck check {spec}")
    return int(ExitCode.AGREES)


def _free(file: Path, text: str) -> Path:
    """Return the first file name that is free: `file` itself, or one with a number.

    The numbered names for my_net.py are my_net2.py, my_net3.py and so on. A name is free if no such file
    exists, or if the file already holds this text.
    """
    names = (file.with_stem(f"{file.stem}{number}") for number in count(2))
    return next(each for each in chain([file], names) if not os.path.lexists(each) or _holds(each, text))


def _holds(file: Path, text: str) -> bool:
    try:
        return file.is_file() and file.read_bytes() == text.encode()
    except OSError:
        return False


_KEPT = "already exists; not overwritten"


def _write_all(spec: Path, texts: Mapping[Path, str]) -> list[Path]:
    """Write the spec, then the other files unless they exist; return the files that were written.

    Raises an `InputError` if the spec exists or a file cannot be written. In that case, no new file is left
    behind.
    """
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
    say("Where do the gradients come from?")
    width = max(map(len, STARTERS))
    for name, row in STARTERS.items():
        say(f"  {name:{width}}  {row.what}")
    try:
        answer: str = click.prompt("Source", type=click.Choice(list(STARTERS)), default="backprop", err=True)
    except click.Abort:
        say("")  # end the line with the ^C
        raise
    return answer


def _write_new(file: Path, text: str) -> bool:
    """Write the text to a new file, completely or not at all. Return False if the file already exists."""
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
