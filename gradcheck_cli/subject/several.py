"""Check several networks at the same time: in processes of this machine, or by the workers of an engine.

Networks run none of the user's code, so any process can check them. Reports do not depend on which one does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.parallel.clock import cores
from gradcheck_cli.parallel.elsewhere import Raised, Returned, answer_of, raised
from gradcheck_cli.parallel.executors import Engine
from gradcheck_cli.parallel.forked_pool import each_in_processes
from gradcheck_cli.parallel.same_files import hashes_of, refuse_other_files
from gradcheck_cli.problem.named_files import files_of
from gradcheck_cli.report import Timed
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of

Answer = Returned | Raised
"""A `Timed` report, or what the check raised."""

Answers = Generator[tuple[int, Answer], None, None]
"""Yields the number of each spec and its answer, as soon as the check is done."""


@np.errstate(all="ignore")
def timed_check(spec: Spec) -> Timed:
    """Check a spec in this process. Raises what the check raises."""
    start = perf_counter()
    report = subject_of(spec).check(spec.check)
    return Timed(report, perf_counter() - start)


def in_processes(specs: Sequence[Spec], check: Callable[[Spec], Timed] = timed_check) -> Answers:
    """Check the specs in as many processes of this machine as the widest of them asks for.

    If there are more processes than specs, each check gets its share of them.

    check: checks one spec.
    """
    jobs = max(cores() if spec.check.jobs == "auto" else spec.check.jobs for spec in specs)
    narrow = [_with_jobs(spec, max(1, jobs // len(specs))) for spec in specs]
    yield from _until_lost(each_in_processes(partial(answer_of, check), narrow, jobs), len(specs))


def by_workers(specs: Sequence[Spec], engine: Engine) -> Answers:
    """Check the specs by the workers of an engine, which must have the same files under the same paths."""
    yield from _until_lost(_by_workers(specs, engine), len(specs))


def _by_workers(specs: Sequence[Spec], engine: Engine) -> Answers:
    from gradcheck_cli.parallel.parts import Shared

    parts = [Part.of(_with_jobs(spec, 1)) for spec in specs]
    with engine.opened() as opened:
        for number, done in Shared(opened, Checking()).each(parts):
            yield number, done.value


def _with_jobs(spec: Spec, jobs: int) -> Spec:
    return spec.model_copy(update={"check": spec.check.model_copy(update={"jobs": jobs})})


def _until_lost(answers: Answers, count: int) -> Answers:
    """Yield the answers. If the processes or the engine fail, that error answers for all specs left."""
    left = set(range(count))
    try:
        for number, answer in answers:
            left.remove(number)
            yield number, answer
    except InputError as error:
        for number in sorted(left):
            yield number, raised(error)


# --- in a worker -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A spec, and the SHA-256 of each file that the spec names."""

    spec: Spec
    hashes: Mapping[Path, str]

    @staticmethod
    def of(spec: Spec) -> Part:
        """Return the spec with the hashes of its files."""
        return Part(spec, hashes_of(file for _, file in files_of(spec)))


@dataclass(frozen=True)
class Checking:
    """The task to check specs, each of which is a part."""

    def begin(self) -> Callable[[Part], Answer]:
        """Return the function that checks one spec, if the files that it names are the same here."""

        def checked(part: Part) -> Answer:
            refuse_other_files(part.hashes, ())
            return answer_of(timed_check, part.spec)

        return checked
