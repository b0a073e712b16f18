"""Code of the user's: loaded afresh from its file, and run so that all it may do wrong is an `InputError`."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TextIO, cast

from gradcheck_cli.errors import (
    InputError,
    Location,
    bad_input,
    did_you_mean,
    did_you_mean_file,
    shortened,
)
from gradcheck_cli.model.arrays import listed
from gradcheck_cli.spec import Code

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_PREFIX = "_gradcheck_user_code_"
_NUMBERS = count(1)

_BEFORE: dict[str, frozenset[str]] = {}
"""By folder, the names of the modules that were there before code of that folder was last loaded."""


_GONE_TO: dict[str, str] = {}
"""By folder, where code of that folder has gone by os.chdir: it finds itself there in its next call."""


class Callee(Protocol):
    """A function of the user's, wherever it comes from; as text, its name."""

    @property
    def value(self) -> Callable[..., Any]: ...

    @property
    def where(self) -> Location:
        """The place in the spec, which all complaints are about."""

    def running(self, circumstances: str = "") -> AbstractContextManager[None]:
        """Calls into the code happen in here; `circumstances` are told if it fails."""

    def complain(self, message: str, help: str | None = None) -> InputError:
        """The error to raise: the name of the code, and what it does."""


@dataclass(frozen=True)
class UserCode:
    """What a spec names in a file of Python, and the module that the file is.

    where: the place in the spec, which all complaints are about.
    """

    code: Code
    where: Location
    module: ModuleType
    value: Callable[..., Any]

    def __str__(self) -> str:
        return str(self.code)

    @contextmanager
    def running(self, circumstances: str = "") -> Iterator[None]:
        """Calls into the code happen in here; `circumstances` go before its name in a complaint."""
        what = f"{circumstances}, {self}" if circumstances else str(self)
        with guard(self.code.file, self.where, what):
            yield

    def own(self, name: str) -> Any:
        """What the module calls `name`, or what that returns if it is a function; or None."""
        value = getattr(self.module, name, None)
        with guard(self.code.file, self.where, f"{name} of {self.code.file.name}"):
            return value() if callable(value) else value

    def complain(self, message: str, help: str | None = None) -> InputError:
        """The error to raise: the name of the code, and what it does."""
        return bad_input(f"{self} {message}", *self.where, help=help)


def load(code: Code, where: Location) -> UserCode:
    """Run the file as a module of its own. Raises `InputError` at `where` if it has no such function."""
    _refuse_no_file(code.file, where)
    _forget_neighbours()
    _BEFORE[_folder(code.file)] = frozenset(sys.modules)
    _GONE_TO.pop(_folder(code.file), None)
    with guard(code.file, where, code.file.name):
        module = _import(code.file)
        value = _find(module, code, where)
    if not callable(value):
        raise bad_input(f"{code} is {a(value)}, not a function", *where)
    return UserCode(code, where, module, value)


def a(value: object) -> str:
    """Name the kind of a value: ``a dict``, ``an array``, ``None``."""
    name = type(value).__name__.removeprefix("nd")
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


@contextmanager
def guard(file: Path, where: Location, what: str) -> Iterator[None]:
    """Run code of `file`: it may import its neighbours, and what it prints goes to stderr.

    Whatever it raises becomes an `InputError` at `where`, also sys.exit and os._exit; only Ctrl-C passes.
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
        if isinstance(error, InputError) and _is_ours(error):
            raise
        raise bad_input(f"{what} {_failure(error, folder)}", *where, help=_help(error)) from None


def _is_ours(error: InputError) -> bool:
    """Whether we raised it, about the code: the code may raise one, too."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_filename.startswith(_PACKAGE)


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """The code may import its neighbours. It may add to the path, and what it takes away is put back."""
    before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # it may have been removed already
            sys.path.remove(folder)
        sys.path += [place for place in before if place not in sys.path]


@contextmanager
def _folder_of_its_own(folder: str) -> Iterator[None]:
    """Whatever it makes the current folder is that for itself alone: our files stay where they were named."""
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
    """Nothing if it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _go(folder: str) -> None:
    with suppress(OSError):  # it may have been deleted
        os.chdir(folder)


@contextmanager
def _streams_lent() -> Iterator[None]:
    """What it prints goes to stderr. What it closes, or puts in their place, is gone when it is through."""
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = cast(TextIO, _Lent(stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr


class _Lent:
    """A stream of ours in all but this: to close it closes nothing."""

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
    for name in ("_exit", "execv", "execve")  # what else there is calls these
)


@contextmanager
def _no_way_out() -> Iterator[None]:
    """os._exit would end this process at once, and with 0 as if all were right. A child may still call it.

    In the command, nothing that ends the process passes for a verdict (see `own_process`); what is refused
    here can be told with its line, and does not end a run of tests that calls for a check.
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
        raise PermissionError(f"os.{name} would put another program in the place of gradcheck")

    return refuse


@contextmanager
def _child_ends_here() -> Iterator[None]:
    """A process that the code has forked does not go on as a second gradcheck."""
    own, leave = os.getpid(), os._exit
    try:
        yield
    finally:
        if os.getpid() != own:
            leave(0)


# --- what went wrong -------------------------------------------------------------------------------------


def _failure(error: BaseException, folder: str) -> str:
    """Describe the failure: ``raises ValueError at my_net.py:7: …``."""
    place = _place(error, folder)
    at = f" at {place}" if place else ""
    if isinstance(error, SystemExit):
        return f"calls sys.exit({'' if error.code is None else repr(error.code)}){at}"
    reason = _reason(error)
    return f"raises {type(error).__name__}{at}" + (f": {reason}" if reason else "")


def _place(error: BaseException, folder: str) -> str | None:
    """The file and line of the user's that the error comes from, as deep as the user's own files go."""
    if isinstance(error, SyntaxError) and error.filename and os.path.isfile(error.filename):
        places = [(error.filename, error.lineno)]
    else:
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return place_among(places, folder)


def place_among(places: Iterable[tuple[str, int | None]], folder: str) -> str | None:
    """The last of these files and lines that is the user's: ``my_net.py:7``."""
    own = [(file, line) for file, line in places if _is_users(file, folder)]
    return f"{os.path.relpath(own[-1][0], folder)}:{own[-1][1]}" if own else None


def _is_users(file: str, folder: str) -> bool:
    library = "site-packages" in file or file.startswith((_PACKAGE, "<frozen "))
    return os.path.abspath(file).startswith(os.path.join(folder, "")) and not library


def _reason(error: BaseException) -> str:
    """The first line of the error's message, which is the user's code too."""
    try:
        lines = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().splitlines()
    except Exception:
        return ""
    return shortened(lines[0], 200) if lines else ""


def _help(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install '{error.name}' for the Python that runs gradcheck"
    if isinstance(error, SystemExit):
        return "what a script does on its own belongs under if __name__ == '__main__':"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "it leaves files open; close each, as by `with open(…) as file:`"
    return None


# --- importing -------------------------------------------------------------------------------------------


class _Fresh(SourceFileLoader):
    """Never from a cache, which takes two versions of the same second and size for one."""

    def path_stats(self, path: str) -> Any:
        raise OSError


def _folder(file: Path) -> str:
    return os.path.abspath(file.parent)


def _refuse_no_file(file: Path, where: Location) -> None:
    if file.is_dir():
        raise bad_input(f"'{file}' is a folder; a file of Python is needed here", *where)
    if not file.exists():
        raise bad_input(f"there is no file '{file}'", *where, help=did_you_mean_file(file))


def _import(file: Path) -> ModuleType:
    name, path = f"{_PREFIX}{next(_NUMBERS)}_{file.stem}", os.path.abspath(file)
    loader = _Fresh(name, path)
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # a loader was given
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickle and others look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _forget_neighbours() -> None:
    """Let every file import its own neighbours: two folders may each have a layers.py."""
    for folder, before in _BEFORE.items():
        for name in set(sys.modules) - before:
            if _is_neighbour(name, folder):
                del sys.modules[name]
    _BEFORE.clear()


def _is_neighbour(name: str, folder: str) -> bool:
    """Whether the module is one that was found in the folder, and not one of ours."""
    file = getattr(sys.modules[name], "__file__", None) or ""
    path = os.path.join(folder, *name.split("."))
    return file in (f"{path}.py", os.path.join(path, "__init__.py")) and not file.startswith(_PACKAGE)


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
