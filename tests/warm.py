"""Run the command in forks of a process that has loaded it, since loading takes longer than most checks.

    python warm.py SOCKET MODULE…

loads gradcheck and the modules, writes a line, and then runs every command that `ask.py` asks for, until its
standard input closes. Workers that such a command spawns load this file again, without the folder of the
tests in their path.
"""

from __future__ import annotations

import ast
import atexit
import os
import select
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
ASK = HERE / "ask.py"

_LOADED = ("checker", "cli.check", "diagnose", "explain.explain", "formats.table", "mutate.mutate", "sweep")
"""The modules of gradcheck that most commands need."""


@cache
def command(*modules: str) -> str:
    """Return a shell command that is gradcheck, but does not load gradcheck and these modules every time.

    The process that has loaded them ends with this one.
    """
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    path = str(Path(folder.name, "socket"))
    server = subprocess.Popen(
        [sys.executable, __file__, path, *modules],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)  # closes its standard input
    return f'"{sys.executable}" -I -S "{ASK}" "{path}"'


def serve(path: str) -> None:
    """Return in a fork for each command that is asked for, ready to run it; return no more at the end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            asked, _ = listener.accept()
            with asked:
                if not os.fork():
                    become(asked)
                    return
            _forget_ended()
        _forget_ended()
    os._exit(0)


def _forget_ended() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become(asked: socket.socket) -> None:
    """Take over the streams, the folder, the environment and the arguments of the process that asks.

    Another process waits for this one, and reports its exit code.
    """
    _, streams, *_ = socket.recv_fds(asked, 1, 3)
    with asked.makefile("r", encoding="utf-8", errors="surrogateescape") as file:
        folder, variables, arguments = ast.literal_eval(file.read())
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        asked.sendall(str(code).encode())
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv[1:] = arguments
    sys.path[0] = folder


if __name__ == "__main__":
    for name in (*(f"gradcheck_cli.{room}" for room in _LOADED), *sys.argv[2:]):
        import_module(name)
    from gradcheck_cli import Spec
    from gradcheck_cli.__main__ import main

    Spec.model_rebuild()
    serve(sys.argv[1])
    main()
