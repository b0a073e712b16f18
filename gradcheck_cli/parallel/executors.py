"""The engines that can share out work: a pool on this machine, dask, or any `concurrent.futures.Executor`.

The packages that an engine needs are imported when it is opened, since most checks need none of them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck_cli.errors import InputError, bad_input, closest
from gradcheck_cli.parallel.clock import cores
from gradcheck_cli.parallel.interruptions import INTERRUPTING
from gradcheck_cli.spec.allowed import JOBS

if TYPE_CHECKING:
    from concurrent.futures import Executor

# --- executors ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What gradcheck has to know about the executors of one package.

    package: the package that defines the class of the executor.
    width: a function that returns the present number of workers of an executor.
    shortest: the least number of seconds that a part should take, so that sending it costs little.
    busy: a bound on the seconds that the engine is busy with one part, whether or not workers are free.
    starts_late: whether it also starts in a process that the command has forked to run the user's code.
    """

    package: str
    width: Callable[[Any], int]
    shortest: float = 1.0
    busy: float = 0.005
    starts_late: bool = True


def _pool_width(executor: Any) -> int:
    return getattr(executor, "_max_workers", 0) or cores()


KINDS = (
    Kind("concurrent", _pool_width, shortest=0.02, busy=0.0005),
    Kind("distributed", lambda executor: len(executor._client.nthreads(callback_timeout=CONNECTING))),
    Kind("ipyparallel", lambda executor: len(executor.view.client.ids)),
    Kind("mpi4py", lambda executor: executor.num_workers or cores(), starts_late=False),
    Kind("executorlib", lambda executor: executor.max_workers or cores()),
    Kind("", _pool_width),  # any other package
)


def kind_of(executor: Executor) -> Kind:
    """Return the row of `KINDS` for the executor. The last row fits every executor."""
    own = [base.__module__ for base in type(executor).__mro__]
    packages = [module.split(".")[0] for module in own if module != "concurrent.futures._base"]
    known = {kind.package: kind for kind in KINDS}
    return next((known[package] for package in packages if package in known), known[""])


def shortest_of(width: int, busy: float) -> float:
    """Return how long parts must take so that an engine with `width` workers is busy half of the time.

    busy: the seconds that the engine is busy with one part.
    """
    return 2.0 * width * busy


@dataclass(frozen=True)
class Opened:
    """An executor that is ready for work. `str()` returns its name for messages.

    help: what to do if the executor fails.
    """

    executor: Executor
    name: str
    help: str

    def __str__(self) -> str:
        return self.name

    @property
    def shortest(self) -> float:
        """The least number of seconds that a part should take.

        Parts are longer for many workers, so that the engine can keep all of them busy.
        """
        kind = kind_of(self.executor)
        return max(kind.shortest, shortest_of(self.width(), kind.busy))

    def width(self) -> int:
        """Return the present number of workers, which may change at any time; 0 if there are none."""
        try:
            return kind_of(self.executor).width(self.executor)
        except Exception:  # the engine has gone, which the next future says more clearly
            return 0


def _refusal(message: str, help: str | None = None) -> InputError:
    """Return an `InputError` about the place that names the engine."""
    return bad_input(message, *PLACE, help=help)


PLACE = ("check", "jobs")
"""The place in a spec that errors of an engine point at, and that the option `--jobs` overrides."""

# --- engines -----------------------------------------------------------------------------------------------


class Engine(Protocol):
    """A way to get an executor. An engine is only data, which another process can use as well."""

    def opened(self) -> AbstractContextManager[Opened]:
        """Return a context with an executor. On exit, an executor that the engine has made is shut down.

        Raises `InputError` if there is no such executor.
        """


@dataclass(frozen=True)
class LocalPool:
    """A pool of `jobs` worker processes on this machine."""

    jobs: int

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(self.jobs, context, initializer=settle)
        with ended(executor):
            yield Opened(executor, "the pool", "--jobs 1 runs the code without worker processes")


def settle() -> None:
    """Set up this process as a worker, which ends when its parent ends it, or ends itself.

    The worker ignores the signals that interrupt the parent, even if they are sent to both.
    """
    from gradcheck_cli.parallel.ends import end_with_parent  # ctypes takes long to load

    for number in INTERRUPTING:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


@dataclass(frozen=True)
class Given:
    """An executor that the caller made, and shuts down."""

    executor: Executor

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        yield Opened(self.executor, type(self.executor).__name__, "check the executor and its workers")


@dataclass(frozen=True)
class Dask:
    """The workers of a dask scheduler.

    address: such as ``tcp://host:8786``. If it is empty, dask's settings say it, such as the variable
        DASK_SCHEDULER_ADDRESS; by default, it is the port 8786 of this machine.
    """

    address: str

    def __str__(self) -> str:
        return f"dask:{self.address}" if self.address else "dask"

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        dask = _distributed()
        address = self.address or _address_of_settings()
        _silence_logs_of("distributed")  # our messages say what it would log
        client = _connected(dask.Client, address)
        try:
            _await_worker(client, address)
            help = f"see the logs of the scheduler and of {_worker(address)}"
            yield Opened(client.get_executor(), f"the dask scheduler at {address}", help)
        finally:
            client.close(timeout=_CLOSING)


CONNECTING = 5.0
"""The number of seconds to wait for an answer of a scheduler, and at first for a worker of it."""

_CLOSING = 2.0
"""The number of seconds to wait for an engine that has been asked to end."""

_CANCELLING = 0.1
"""The number of seconds in which an executor cancels what it has not begun."""


def _connected(client: Callable[..., Any], address: str) -> Any:
    """Return a client that is connected to the scheduler. Raises `InputError` if no scheduler answers.

    client: dask's class.
    """
    options = {"timeout": CONNECTING, "set_as_default": False, "name": "gradcheck"}
    connect = partial(client, address, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions that differ, which we compare ourselves
        try:
            try:
                return connect()
            except AssertionError:  # a message to all clients came together with the scheduler's greeting
                return connect()
        except (OSError, ValueError, TypeError) as error:
            raise _no_scheduler(address, error) from None


def _silence_logs_of(package: str) -> None:
    """Silence the loggers of a package, some of which have a level of their own."""
    import logging

    for name in (package, *logging.root.manager.loggerDict):
        if f"{name}.".startswith(f"{package}."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _address_of_settings() -> str:
    dask = importlib.import_module("dask")
    return dask.config.get("scheduler-address", None) or "tcp://127.0.0.1:8786"


def _no_scheduler(address: str, error: Exception) -> InputError:
    port = address.rpartition(":")[2]
    start = f"dask scheduler --port {port}" if port.isdigit() and port != "8786" else "dask scheduler"
    message = f"there is no dask scheduler at {address}"
    if isinstance(error, ValueError | TypeError):
        return _refusal(f"{message} ({error})", help="an address looks like dask:tcp://host:8786")
    help = f"start it with `{start}`, and its workers with {_worker(address)}"
    return _refusal(f"{message}: no answer in {CONNECTING:g} s", help=help)


def _worker(address: str) -> str:
    return f"`dask worker {address} --nworkers auto --nthreads 1`"


def _await_worker(client: Any, address: str) -> None:
    """Wait for a first worker. Raises `InputError` if none comes."""
    try:
        client.wait_for_workers(1, timeout=CONNECTING)
    except Exception:  # distributed has a TimeoutError of its own
        message = f"the dask scheduler at {address} has no workers"
        help = f"start some with {_worker(address)}; an adaptive cluster needs minimum=1"
        raise _refusal(message, help=help) from None


@dataclass(frozen=True)
class Factory:
    """A function without arguments that returns an executor, such as a class: ``module:name``."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        executor = self._made()
        if not all(callable(getattr(executor, name, None)) for name in ("submit", "shutdown")):
            message = f"{self} returned {type(executor).__name__}, which has no submit and shutdown"
            raise _refusal(message, help="return a concurrent.futures.Executor")
        if not kind_of(executor).starts_late and parent_process():
            help = "pass the executor to check() in a script that mpiexec starts"
            raise _refusal(f"{self} returned {type(executor).__name__}, but MPI has to start first", help)
        with ended(executor):
            yield Opened(executor, f"the executor of {self}", "check the executor and its workers")

    def _made(self) -> Executor:
        module = _from_here(self.module)
        if (make := getattr(module, self.name, None)) is None:
            near = closest(self.name, vars(module))
            help = f"did you mean '{self.module}:{near}'?" if near else None
            raise _refusal(f"{self}: the module has no '{self.name}'", help=help)
        try:
            with redirect_stdout(sys.stderr):  # our output is the result
                return make()
        except (Exception, SystemExit) as error:
            raise _refusal(f"{self} raises {type(error).__name__}: {error}") from error


def _from_here(module: str) -> Any:
    """Import a module, from the current folder or from anywhere else on the path."""
    sys.path.insert(0, folder := os.getcwd())
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _refusal(str(error), help="name a module that Python can import") from None
    except (Exception, SystemExit) as error:
        raise _refusal(f"{module} raises {type(error).__name__}: {error}") from error
    finally:
        with suppress(ValueError):  # the module may have removed it
            sys.path.remove(folder)


def _distributed() -> Any:
    """Return dask's package for clusters. Raises `InputError` if it is not installed."""
    try:
        return importlib.import_module("distributed")
    except ModuleNotFoundError:
        raise _refusal("dask is not installed", help="pip install 'dask[distributed]'") from None


@contextmanager
def ended(executor: Executor) -> Iterator[None]:
    """Shut the executor down on exit. After an interruption or a failure, end its processes at once.

    Exit waits for the executor, since Python warns about semaphores that a pool has had no time to free.
    """
    import multiprocessing

    others = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        shutdown = Thread(target=_cancelled, args=(executor,), daemon=True)
        shutdown.start()
        shutdown.join(_CANCELLING)  # a pool that has cancelled its work expects that its processes end
        for process in set(multiprocessing.active_children()) - others:
            process.kill()  # ours ignore SIGTERM
        shutdown.join(_CLOSING)
        raise
    with suppress(Exception):  # the work is done, whatever becomes of the engine
        executor.shutdown()


def _cancelled(executor: Executor) -> None:
    """Shut the executor down and cancel the work that it has not begun."""
    with suppress(Exception):  # an error has ended the check already
        try:
            executor.shutdown(cancel_futures=True)
        except TypeError:  # dask and ipyparallel do not know this argument
            executor.shutdown(wait=False)


def engine_of(jobs: int | str | Executor) -> Engine | None:
    """Return the engine for an executor, or for a value of `--jobs`; None if this process does all the work.

    jobs: a number of processes, ``auto``, ``dask``, ``dask:ADDRESS``, ``module:factory``, or an executor.

    Raises `InputError` if a text names no engine.
    """
    if jobs == 1:
        return None
    if jobs == "auto":
        return LocalPool(cores())
    if isinstance(jobs, int):
        return LocalPool(jobs)
    return named(jobs) if isinstance(jobs, str) else Given(jobs)


def jobs_of(text: str) -> int | str:
    """Return a number of processes, ``auto``, or the name of an engine.

    Raises `InputError` if the text is none of these.
    """
    if text == "auto":
        return text
    if not text.lstrip("-").isdigit():
        return str(named(text))
    low, high = JOBS["ge"], JOBS["le"]
    if not low <= int(text) <= high:
        raise _refusal(f"'{text}' is not in the range from {low} to {high}")
    return int(text)


def named(text: str) -> Dask | Factory:
    """Return the engine with this name: ``dask``, ``dask:ADDRESS`` or ``module:factory``.

    Raises `InputError` if the text names no engine.
    """
    first, colon, rest = text.partition(":")
    if first == "dask" and bool(colon) == bool(rest):
        return Dask(rest)
    if rest.isidentifier() and all(map(str.isidentifier, first.split("."))):
        return Factory(first, rest)
    raise _refusal(f"'{text}' is not auto, dask, dask:ADDRESS or module:factory")
