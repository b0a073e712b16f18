"""Send a function that a caller passed in to other processes, as a pickle."""

from __future__ import annotations

import importlib
import pickle
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.errors import bad_input


@dataclass(frozen=True)
class Pickled:
    """A function that a caller passed in, as a pickle of a call that returns it with its inputs."""

    call: bytes

    @staticmethod
    def of(read: partial[tuple[Function, Inputs]]) -> Pickled:
        """Pickle a call, by cloudpickle if it is installed.

        Raises `InputError` if its arguments cannot be pickled.
        """
        try:
            return Pickled(_dumps(read))
        except Exception as error:
            message = f"your function cannot be sent to other processes: {type(error).__name__}: {error}"
            help = "install cloudpickle, or define the function at the top of a module"
            raise bad_input(message, help=help) from error

    def function(self) -> Function:
        try:
            read = pickle.loads(self.call)
        except Exception as error:
            message = f"a worker cannot load your function: {type(error).__name__}: {error}"
            raise bad_input(message, help="install the modules that it needs on every machine") from error
        function: Function
        function, _ = read()
        return function


def _dumps(read: partial[Any]) -> bytes:
    try:
        cloudpickle = importlib.import_module("cloudpickle")
    except ModuleNotFoundError:
        return pickle.dumps(read)
    with ExitStack() as by_value:
        for module in _own_modules(read):
            by_value.enter_context(_by_value(cloudpickle, module))
        dumped: bytes = cloudpickle.dumps(read)
    return dumped


def _own_modules(read: partial[Any]) -> set[ModuleType]:
    """Return the caller's own modules, such as a test's, which a worker on another machine cannot import."""
    names = {getattr(given, "__module__", None) or type(given).__module__ for given in read.args}
    modules = (sys.modules[name] for name in names if name in sys.modules and name != "__main__")
    installed = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return {
        module
        for module in modules
        if (file := getattr(module, "__file__", None))
        and not file.startswith(installed)
        and not module.__name__.startswith("gradcheck_cli")
    }


@contextmanager
def _by_value(cloudpickle: Any, module: ModuleType) -> Iterator[None]:
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
