"""The command line: options → check → render → exit code. Each command has a file of its own.

Heavy imports wait until a command needs them: `--help` and `--version` load neither numpy nor pydantic.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import NoReturn

import click

from gradcheck_cli import __version__
from gradcheck_cli.cli import check, compare, dump, explain, init, mutate, schema, sweep
from gradcheck_cli.cli.defaults import defaults_of, refuse_unknown_variables, said_by
from gradcheck_cli.cli.options import EXIT_CODES_HELP
from gradcheck_cli.cli.settable import PREFIX
from gradcheck_cli.cli.terminal import DEFECT, abandon_stdout, complain, print_traceback, say, unwritable
from gradcheck_cli.errors import Complaint, ExitCode, InputError, is_interruption
from gradcheck_cli.parallel.interruptions import end_by, interrupt_once

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    context_settings=_CONTEXT,
    epilog=EXIT_CODES_HELP,
    subcommand_metavar="COMMAND [ARGS]...",
    invoke_without_command=True,
    no_args_is_help=False,
)
@click.version_option(__version__, "-V", "--version", prog_name="gradcheck")
@click.pass_context
def cli(context: click.Context) -> None:
    """Is this backprop gradient right, and if not, which entry is wrong, and why?"""
    if context.invoked_subcommand is None:
        say(*context.get_help().split("\n"))
        context.exit(ExitCode.BAD_INPUT)
    refuse_unknown_variables(cli.commands)
    context.default_map = defaults_of(cli.commands)


COMMANDS = (
    check.check,
    compare.compare,
    explain.explain,
    sweep.sweep,
    mutate.mutate,
    dump.dump,
    init.init,
    schema.schema,
)

for command in COMMANDS:
    command.context_settings["auto_envvar_prefix"] = PREFIX
    cli.add_command(command)


# --- exit codes --------------------------------------------------------------------------------------------


_WRITE_FAILURES = (errno.EBADF, errno.EIO, errno.ENOSPC)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with one of gradcheck's exit codes, however the command ends.

    Otherwise, click's errors, a traceback or Ctrl-C would exit with 1, which here means a wrong gradient.
    """
    _open_closed_streams()
    with _ended_by_signals():
        status = _run(arguments)
    sys.exit(status)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the command, as Ctrl-C does, before they end it.

    So its processes end first, and free what they hold.
    """
    if os.name != "posix" or current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    mine = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    received = interrupt_once(*mine)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
        for one in received:
            end_by(one)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return int(cli.main(arguments, prog_name="gradcheck", standalone_mode=False) or 0)
    except (KeyboardInterrupt, click.exceptions.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # not Ctrl-D at a prompt, for which click sets no cause
            return _defect()
        say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except click.ClickException as error:
        say(*_usage(error))
        return int(ExitCode.BAD_INPUT)
    except InputError as error:
        complain(*error.complaints)
        return int(error.exit_code)
    except SystemExit:  # from click, if the reader of `--help` closes the pipe
        abandon_stdout()
        return int(ExitCode.AGREES)
    except OSError as error:
        return unwritable(error) if error.errno in _WRITE_FAILURES else _defect()
    except BaseException as error:  # an unexpected error must not exit with 1
        if is_interruption(error):
            say("interrupted")
            return int(ExitCode.INTERRUPTED)
        return _defect()


def _usage(error: click.ClickException) -> tuple[str, str]:
    """Return click's message in gradcheck's style, and a hint that points to the help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "gradcheck"
    message = error.format_message()
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
        said = said_by(str(error.param.name), context)
        message = message if said.startswith("-") else f"{said}: {message}"
    return f"error: {message}", f"      = help: see {command} --help"


def _defect() -> int:
    print_traceback()
    complain(Complaint("gradcheck failed; see above", help=DEFECT))
    return int(ExitCode.DEFECT)


def _open_closed_streams() -> None:
    """Open the null device in place of each standard stream that the caller closed (`>&-`).

    Python sets the variable of a closed stream, such as `sys.stdout`, to None.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until exit
