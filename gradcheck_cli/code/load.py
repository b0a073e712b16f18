"""Load the user's code from its file, and guard every call to it: any failure becomes an `InputError`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self, TextIO, cast

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.failures import PACKAGE, failure, help_for, is_ours
from gradcheck_cli.errors import InputError, Location, bad_input, did_you_mean, did_you_mean_file, shortened
from gradcheck_cli.spec.gradients import Code, WithReference

_PREFIX = "_gradcheck_user_code_"
_NUMBERS = count(1)

_BEFORE: dict[str, frozenset[str]] = {}
"""For each folder, the names in sys.modules just before code from that folder was loaded."""


_GONE_TO: dict[str, str] = {}
"""For each folder, the current directory that code from this folder has chosen with os.chdir.

The next call to code from that folder starts in this directory.
"""


class Callee(Protocol):
    """A function that the user wrote, loaded from a file or passed in. `str()` returns its name."""

    @property
    def value(self) -> Callable[..., Any]: ...

    @property
    def where(self) -> Location:
        """The place in the spec that errors in this function point at."""

    @property
    def file(self) -> Path:
        """The file that defines the function."""

    def calling(self, function: Callable[..., Any]) -> Self:
        """Return a copy that calls `function`, such as a wrapper around the user's function."""

    def running(self, circumstances: str = "") -> AbstractContextManager[None]:
        """Return a context for calls to the function. A failure in the context mentions `circumstances`."""

    def complain(self, message: str, help: str | None = None) -> InputError:
        """Return an `InputError` whose text is the function's name followed by `message`."""


@dataclass(frozen=True)
class UserCode:
    """A function or class that a spec names in a Python file, and the module loaded from that file.

    where: the place in the spec that errors point at.
    """

    code: Code
    where: Location
    module: ModuleType
    value: Callable[..., Any]

    def __str__(self) -> str:
        return str(self.code)

    @property
    def file(self) -> Path:
        return self.code.file

    def calling(self, function: Callable[..., Any]) -> Self:
        return replace(self, value=function)

    @contextmanager
    def running(self, circumstances: str = "") -> Iterator[None]:
        """Turn a failure of the code into an `InputError` that names the `circumstances` and the code."""
        what = f"{circumstances}, {self}" if circumstances else str(self)
        with guard(self.code.file, self.where, what):
            yield

    def own(self, name: str) -> Any:
        """Return the attribute `name` of the module. If the attribute is a function, return its result.

        Returns None if the module has no such attribute.
        """
        value = getattr(self.module, name, None)
        with guard(self.code.file, self.where, f"{name} of {self.code.file.name}"):
            return value() if callable(value) else value

    def complain(self, message: str, help: str | None = None) -> InputError:
        """Return an `InputError` whose text is the name of the code followed by `message`."""
        return bad_input(f"{self} {message}", *self.where, help=help)

    def another(self, name: str, where: Location) -> UserCode:
        """Return another function of the same module. Raises `InputError` if there is no such function."""
        code = Code(self.code.file, name)
        return UserCode(code, where, self.module, _callable(self.module, code, where))


Load = Callable[[Code, Location], UserCode]
"""The type of `load` and of functions like it, which may cache the code they load."""


def load(code: Code, where: Location) -> UserCode:
    """Run the file as a new module, and return the object that `code` names in it.

    Raises an `InputError` that points at `where` if the file fails or has no such function.
    """
    _refuse_no_file(code.file, where)
    _forget_neighbours()
    _BEFORE[_folder(code.file)] = frozenset(sys.modules)
    _GONE_TO.pop(_folder(code.file), None)
    with guard(code.file, where, code.file.name):
        module = _import(code.file)
        value = _callable(module, code, where)
    return UserCode(code, where, module, value)


def referred(source: WithReference, code: UserCode, load: Load) -> UserCode:
    """Return the function that a spec names as the reference, from the file of `code` or from its own."""
    where = ("gradients", "reference")
    if isinstance(source.reference, str):
        return code.another(source.reference, where)
    return load(source.reference, where)


def a(value: object) -> str:
    """Return the name of a value's type with its article, such as ``a dict``; for None, return ``None``."""
    name = type(value).__name__.removeprefix("nd")
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


@contextmanager
def guard(file: Path, where: Location, what: str) -> Iterator[None]:
    """Prepare to run code from `file`: let it import modules from its folder, and send its output to stderr.

    Any exception from the code, and any call to sys.exit or os._exit, becomes an `InputError` that points at
    `where`. Only Ctrl-C and the defects of gradcheck pass through.

    what: the name of the code in the error's message.
    """
    folder = _folder(file)
    try:
        with (
            _child_ends_here(),
            _no_way_out(),
            _streams_lent(),
            _importing_from(folder),
            _folder_of_its_own(folder),
        ):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if is_ours(error) or (isinstance(error, InputError) and _is_of_gradcheck(error)):
            raise
        raise bad_input(f"{what} {failure(error, folder)}", *where, help=help_for(error)) from None


def _is_of_gradcheck(error: InputError) -> bool:
    """Return whether gradcheck itself raised this `InputError`, since the user's code can also raise one."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_filename.startswith(PACKAGE)


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """Let code import modules from its own folder. On exit, restore the entries of sys.path."""
    before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the code may have removed it
            sys.path.remove(folder)
        sys.path += [place for place in before if place not in sys.path]


@contextmanager
def _folder_of_its_own(folder: str) -> Iterator[None]:
    """Keep a separate current directory for the code, so that its os.chdir does not affect gradcheck's paths.

    folder: the folder of the code. The code's current directory is remembered under this key between calls.
    """
    ours = _current_folder()
    if folder in _GONE_TO:
        _go(_GONE_TO[folder])
    try:
        yield
    finally:
        if ours and (theirs := _current_folder()) != ours:
            _GONE_TO[folder] = theirs
            _go(ours)


def _current_folder() -> str:
    """Return the current folder, or an empty string if it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _go(folder: str) -> None:
    with suppress(OSError):  # the folder may have been deleted
        os.chdir(folder)


@contextmanager
def _streams_lent() -> Iterator[None]:
    """Redirect output to stderr.

    On exit, restore the standard streams, even if the code has replaced them.
    """
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = cast(TextIO, _Lent(stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr


class _Lent:
    """A proxy that passes everything except `close` on to a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> _Lent:
        return _Lent(self._stream.buffer)

    def detach(self) -> _Lent:
        return self.buffer

    def close(self) -> None: ...

    def __enter__(self) -> _Lent:
        return self

    def __exit__(self, *_: object) -> None: ...


_EXITS = tuple(
    (module, name)
    for module in (os, import_module(os.name))
    for name in ("_exit", "execv", "execve")  # all other variants call these
)


@contextmanager
def _no_way_out() -> Iterator[None]:
    """Make os._exit and os.exec* raise an error in this process. A child process may still call them.

    The command would survive such an exit anyway, since it runs the code in another process (see
    `own_process`). But an error can name the line, and it does not end a test run that calls a check.
    """
    before = [(module, name, getattr(module, name)) for module, name in _EXITS]
    own = os.getpid()
    for module, name, leave in before:
        setattr(module, name, _refusing(name, leave, own))
    try:
        yield
    finally:
        for module, name, leave in before:
            setattr(module, name, leave)


def _refusing(name: str, leave: Callable[..., Any], own: int) -> Callable[..., Any]:
    def refuse(*arguments: Any) -> Any:
        if os.getpid() != own:
            return leave(*arguments)
        if name == "_exit":
            raise SystemExit(*arguments)
        raise PermissionError(f"os.{name} would replace gradcheck with another program")

    return refuse


@contextmanager
def _child_ends_here() -> Iterator[None]:
    """End every child process that the code forks, at the latest when that child leaves the context.

    Otherwise, the child would continue as a second gradcheck.
    """
    own, leave = os.getpid(), os._exit
    try:
        yield
    finally:
        if os.getpid() != own:
            leave(0)


# --- importing -------------------------------------------------------------------------------------------


class _Fresh(SourceFileLoader):
    """A loader that ignores cached bytecode, which is stale if a file changes twice within a second."""

    def path_stats(self, path: str) -> Any:
        raise OSError


def _folder(file: Path) -> str:
    return os.path.abspath(file.parent)


def _refuse_no_file(file: Path, where: Location) -> None:
    # not Path.is_dir and Path.exists, which raise for a name that is too long
    if os.path.isdir(file):
        raise bad_input(f"'{file}' is a folder; expected a Python file", *where)
    if not os.path.exists(file):
        raise bad_input(f"there is no file '{file}'", *where, help=did_you_mean_file(file))


def _import(file: Path) -> ModuleType:
    name, path = f"{_PREFIX}{next(_NUMBERS)}_{file.stem}", os.path.abspath(file)
    loader = _Fresh(name, path)
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # set by the loader above
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickle and others look up their module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _forget_neighbours() -> None:
    """Unload the modules that earlier code imported from its own folder.

    Two folders may each have a layers.py, and code must import the one in its own folder.
    """
    for folder, before in _BEFORE.items():
        for name in set(sys.modules) - before:
            if _is_neighbour(name, folder):
                del sys.modules[name]
    _BEFORE.clear()


def _is_neighbour(name: str, folder: str) -> bool:
    """Return whether this module was imported from `folder` and is not part of gradcheck."""
    file = getattr(sys.modules[name], "__file__", None) or ""
    path = os.path.join(folder, *name.split("."))
    return file in (f"{path}.py", os.path.join(path, "__init__.py")) and not file.startswith(PACKAGE)


def _callable(module: ModuleType, code: Code, where: Location) -> Callable[..., Any]:
    value = _find(module, code, where)
    if not callable(value):
        raise bad_input(f"{code} is {a(value)}, not a function", *where)
    return cast(Callable[..., Any], value)


def _find(module: ModuleType, code: Code, where: Location) -> Any:
    value: Any = module
    for part in code.name.split("."):
        if not hasattr(value, part):
            names = [name for name, found in vars(value).items() if _is_defined(name, found)]
            message = f"{code.file.name} has no '{shortened(code.name)}'; it defines {listed(names)}"
            raise bad_input(message, *where, help=did_you_mean(part, names))
        value = getattr(value, part)
    return value


def _is_defined(name: str, value: object) -> bool:
    return not name.startswith("_") and not isinstance(value, ModuleType)
