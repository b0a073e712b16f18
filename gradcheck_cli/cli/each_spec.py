"""Read and check each spec of a command line. An error becomes the outcome of its spec; the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from gradcheck_cli.cli.changes import changed, executor_of, located, refuse_code, run_apart
from gradcheck_cli.cli.progress import Activity, Progress
from gradcheck_cli.cli.terminal import DEFECT, print_traceback
from gradcheck_cli.errors import Complaint, ExitCode, InputError, UntrustedReferenceError, is_interruption

if TYPE_CHECKING:
    from gradcheck_cli.report import Outcome, Report, Timed
    from gradcheck_cli.spec.file import SpecFile
    from gradcheck_cli.spec.spec import Spec
    from gradcheck_cli.subject.several import Answer, Answers

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What a command line asks of one spec.

    read: the spec as its file says it.
    changes: the options that override its settings.
    spec: the spec with these options applied.
    executor: the name of the engine that shares out the work; None for processes of this machine.
    timeout: the time limit in seconds, or None for no limit.
    """

    read: SpecFile
    changes: dict[str, Any]
    spec: Spec
    executor: str | None
    timeout: float | None

    @property
    def can_be_shared(self) -> bool:
        """Whether another process may check the spec while this one checks others.

        The user's code needs all processes. A time limit needs a process of this machine.
        """
        if self.spec.names_code:
            return False
        return self.spec.check.jobs != 1 if self.executor is None else self.timeout is None


def asked_of(path: str, changes: dict[str, Any], no_code: bool, timeout: float | None) -> Asked:
    """Read one spec, and apply the options to it. Raises `InputError` if this is not possible."""
    from gradcheck_cli.spec.file import read_spec

    _refuse_empty_folder(path)
    read = read_spec(path)
    with located(read, changes):
        spec = changed(read.spec, changes)
        if no_code:
            refuse_code(spec)
        return Asked(read, changes, spec, executor_of(spec, changes, no_code), timeout)


def attempt(path: str, work: Callable[[], T]) -> T | Outcome:
    """Return what `work` returns, or the outcome of a spec for which `work` fails.

    Raises `KeyboardInterrupt` after an interruption.
    """
    from gradcheck_cli.report import Outcome

    start, name = perf_counter(), named(path)

    def failed(code: ExitCode, *complaints: Complaint) -> Outcome:
        return Outcome(name, complaints=complaints, failure=code, seconds=perf_counter() - start)

    try:
        return work()
    except InputError as error:
        return failed(error.exit_code, *error.complaints)
    except UntrustedReferenceError as error:
        return failed(error.exit_code, Complaint(f"{name}: {error}", help=DEFECT))
    except Exception as error:
        if is_interruption(error):
            raise KeyboardInterrupt from None
        print_traceback()
        return failed(ExitCode.DEFECT, Complaint(f"{name}: gradcheck failed; see above", help=DEFECT))


def checked(asked: Mapping[int, Asked], color: bool) -> Iterator[tuple[int, Outcome]]:
    """Yield the number and the outcome of each spec. Networks that are checked at the same time come first.

    Raises `KeyboardInterrupt` after an interruption.
    """
    left = dict(asked)
    for numbers, answers in _at_the_same_time(asked):
        done, interrupted = _gathered(answers, len(numbers), color)
        for each, answer in sorted(done.items()):
            number = numbers[each]
            yield number, _outcome(left.pop(number), answer.given)
        if interrupted:
            raise KeyboardInterrupt
    for number, one in left.items():
        yield number, _outcome(one, partial(_alone, one, color))


# --- one spec after another --------------------------------------------------------------------------------


def _outcome(asked: Asked, report: Callable[[], Timed]) -> Outcome:
    """Return the outcome of a spec. `report` returns its report, or raises what the check raises."""
    from gradcheck_cli.report import Outcome

    def outcome() -> Outcome:
        with located(asked.read, asked.changes):
            timed = report()
        places = {each.name: asked.read.place_of(each.name) for each in timed.report.comparisons}
        return Outcome(named(asked.read.path), timed.report, seconds=timed.seconds, places=places)

    return attempt(asked.read.path, outcome)


def _alone(asked: Asked, color: bool) -> Timed:
    from gradcheck_cli.report import Timed

    start, spec = perf_counter(), asked.spec
    bar = (Activity if spec.names_code else Progress)(named(asked.read.path), color)
    report = run_apart(spec, asked.timeout, _report, spec, bar, asked.executor)
    return Timed(report, perf_counter() - start)


def _report(spec: Spec, bar: Progress | Activity, executor: str | None) -> Report:
    from gradcheck_cli.checker import check

    with bar as progress:
        return check(spec, progress, executor=executor)


# --- several networks at the same time ---------------------------------------------------------------------


def _at_the_same_time(asked: Mapping[int, Asked]) -> Iterator[tuple[Sequence[int], Answers]]:
    """Yield the numbers of specs that are checked at the same time, and what yields their answers."""
    shared = {number: each for number, each in asked.items() if each.can_be_shared}
    for executor in {each.executor for each in shared.values()}:
        numbers = [number for number, each in shared.items() if each.executor == executor]
        if len(numbers) > 1:
            yield numbers, _answers([shared[number] for number in numbers], executor)


def _answers(asked: Sequence[Asked], executor: str | None) -> Answers:
    from gradcheck_cli.parallel.executors import named as engine_named
    from gradcheck_cli.subject.several import by_workers, in_processes

    specs = [each.spec for each in asked]
    if executor is not None:
        return by_workers(specs, engine_named(executor))
    return in_processes(specs, partial(_within, asked[0].timeout))


def _within(timeout: float | None, spec: Spec) -> Timed:
    from gradcheck_cli.subject.several import timed_check

    return run_apart(spec, timeout, timed_check, spec)


def _gathered(answers: Answers, count: int, color: bool) -> tuple[dict[int, Answer], bool]:
    """Return the answers by their numbers, and whether an interruption kept some of them away."""
    done: dict[int, Answer] = {}
    try:
        with Progress(f"{count} specs", color, noun="specs") as progress, closing(answers):
            progress.expect(count)
            for number, answer in answers:
                done[number] = answer
                progress.advance(1)
    except KeyboardInterrupt:
        return done, True
    return done, False


def named(path: str) -> str:
    """Return the name by which messages call a spec."""
    return "<stdin>" if path == "-" else path


def _refuse_empty_folder(path: str) -> None:
    """Raise an `InputError` if the path is a folder.

    Such a folder contains no specs; otherwise `expand` would have replaced the folder with its specs.
    """
    if os.path.isdir(path):
        raise InputError(Complaint(f"folder '{path}' contains no spec (.yaml or .yml)"))
