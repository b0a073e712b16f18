"""Plant known mistakes in gradcheck's own backprop, and see whether a check catches each one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.arrays.named_arrays import OwnParameters
from gradcheck_cli.code.sources import with_own_inputs
from gradcheck_cli.comparison import compare
from gradcheck_cli.diagnose.families import MORE_SAMPLES
from gradcheck_cli.diagnose.rows import has_rows
from gradcheck_cli.errors import ExitCode, UntrustedReferenceError, bad_input
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.mutate.mutated import Mutated
from gradcheck_cli.mutate.plant import Plant, planted_like, plants, with_inputs
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.numerical.estimate import Estimate, Progress
from gradcheck_cli.numerical.looks import Looks, Remembered
from gradcheck_cli.parallel.executors import engine_of
from gradcheck_cli.parallel.forked_pool import each_in_processes
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.gradients import Backprop
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.network import NetworkSubject, network_subject
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict, default_rtol

if TYPE_CHECKING:
    from concurrent.futures import Executor

LEFT_OUT = "check: {parameters: all}; this check leaves some parameters out"
"""The change to the spec that would reveal a mistake in a tensor that this check leaves out."""

INPUTS_LEFT_OUT = "check: {inputs: true}; this check leaves ∂L/∂x out"
"""The change to the spec that would reveal a mistake in ∂L/∂x."""

UNCHECKED = frozenset({LEFT_OUT, INPUTS_LEFT_OUT})
"""What would reveal the mistakes in tensors that a check leaves out."""

NO_MISTAKE = "nothing: this formula is right for this activation"
"""The remark on a mistake that has no effect with this activation, such as relu'(a) for relu'(z)."""

NOTICEABLE = 1e-5
"""A mistake counts if it changes an entry by more than this fraction of the gradient's largest entry."""


USUAL = 100
"""The number of mistakes planted by default in networks whose diagnosis takes about a second."""


@dataclass(frozen=True)
class Mutant:
    """One mistake that was planted in one place.

    kind, family: the kind of mistake, and the group that this kind belongs to.
    where: the layer; empty if the mistake concerns the whole network.
    wrong: the wrong formula.
    effect: the largest change of a gradient's entry, as a fraction of the largest entry of its tensor.
    verdict: the verdict of the check; None if the mistake is invisible and the check was not run.
    named: whether the diagnosis names the mistake first.
    tied: whether the diagnosis names the mistake, but only after an equivalent mistake.
    said: the kinds of mistakes in the diagnosis's first answer.
    shown_by: for an invisible mistake, the data, parameters or settings that would reveal it.
    """

    kind: str
    family: str
    where: str
    wrong: str
    effect: float
    verdict: Verdict | None = None
    named: bool = False
    tied: bool = False
    said: tuple[str, ...] = ()
    shown_by: str = ""

    @property
    def visible(self) -> bool:
        return self.verdict is not None

    @property
    def caught(self) -> bool:
        return self.verdict is Verdict.WRONG


@dataclass(frozen=True)
class Mutation:
    """The results of planting mistakes in the network of one spec.

    network: a description of the network.
    right: the verdict on the gradients without a mistake.
    mutants: the planted mistakes, with the results of the check.
    kinked: whether a value of the network lies on a kink. A mistake there may look like a different
        convention.
    applicable: the number of mistakes that apply to the network.
    planned: the number of mistakes to plant; less than `applicable` if only a sample is planted. After an
        interruption, there are fewer mutants than this.
    """

    network: str
    loss_name: str
    right: Verdict
    mutants: tuple[Mutant, ...]
    kinked: bool = False
    applicable: int = 0
    planned: int = 0

    @property
    def interrupted(self) -> bool:
        return len(self.mutants) < self.planned

    @property
    def visible(self) -> tuple[Mutant, ...]:
        return tuple(mutant for mutant in self.mutants if mutant.visible)

    @property
    def caught(self) -> int:
        return sum(mutant.caught for mutant in self.mutants)

    @property
    def named(self) -> int:
        """The number of caught mistakes that the diagnosis names, first or after an equivalent mistake."""
        return sum(mutant.caught and (mutant.named or mutant.tied) for mutant in self.mutants)

    @property
    def passed(self) -> tuple[Mutant, ...]:
        """The mistakes that change the gradients although the check passes."""
        return tuple(mutant for mutant in self.mutants if mutant.verdict is Verdict.AGREES)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code: 130 after an interruption; 1 if a visible mistake passes and no value is on a kink.

        In all other cases the exit code is 0 if at least one mistake is visible and all visible mistakes are
        caught, else 3.
        """
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self.passed and not self.kinked:
            return ExitCode.WRONG
        return ExitCode.AGREES if 0 < len(self.visible) == self.caught else ExitCode.UNDECIDED


def to_mutate(spec: Spec) -> tuple[Spec, OwnParameters | None]:
    """Return the spec with gradcheck's own backprop as its source, and the parameters of the user's code.

    The parameters are None if the spec names parameters itself, or if no code defines any.
    """
    spec, own = with_own_inputs(spec)
    return spec.model_copy(update={"gradients": Backprop()}), own


@np.errstate(all="ignore")  # a mistake may overflow
def mutate(
    spec: Spec,
    progress: Progress | None = None,
    sample: int | None = None,
    own: OwnParameters | None = None,
    *,
    executor: Executor | str | None = None,
) -> Mutation:
    """Plant each applicable mistake in the network of `spec`, and check and diagnose the wrong gradients.

    The gradients that the spec names are not used. After an interruption, the mistakes not yet checked are
    left out of the result. Raises an `InputError` if the spec has no network or does not fit its data, and an
    `UntrustedReferenceError` if the check calls the correct gradients wrong.

    progress: a progress display, which advances once per mistake, not once per evaluation.
    sample: the number of mistakes to draw at random, with the seed of the check. By default, all mistakes are
        planted in a chain of dense and convolution layers. In any other network, where a diagnosis takes
        long, a sample of `USUAL` mistakes is planted.
    own: the parameters that the user's code defines, from `to_mutate`. By default, `mutate` reads these
        parameters itself.
    executor: shares out the mistakes, as for `check`; None for as many processes as the spec says.
    """
    spec, own = to_mutate(spec) if own is None else (spec, own)
    planted = _planted(spec, sample, own)
    subject, chosen = planted.subject, planted.chosen
    if progress:
        progress.expect(len(chosen))
    found: dict[int, Mutant] = {}
    if executor is None:
        mutants = each_in_processes(planted.mutant, range(len(chosen)), spec.check.jobs)
    else:
        mutants = _by_workers(planted, _Planting(spec, sample, own, subject.said.loss), executor)
    try:
        for i, mutant in mutants:
            found[i] = mutant
            if progress:
                progress.advance(1)
    except KeyboardInterrupt:
        if not found:
            raise
    finally:
        mutants.close()
    return Mutation(
        subject.said.described,
        subject.said.loss_name,
        planted.right,
        tuple(found[i] for i in sorted(found)),
        subject.objective.kinks.any,
        planted.applicable,
        len(chosen),
    )


@dataclass(frozen=True)
class _Planted:
    """A network, and the mistakes to plant in it.

    right: the verdict on the right gradients.
    looks: the differences of the network. They do not depend on the gradient, so each is taken only once.
    applicable: the number of mistakes among which `chosen` was drawn.
    """

    subject: Mutated
    how: CheckSpec
    looks: Looks
    right: Verdict
    applicable: int
    chosen: Sequence[Plant]

    def mutant(self, number: int) -> Mutant:
        """Plant one of the chosen mistakes, and return what the check says of it."""
        return _mutant(self.subject, self.how, self.looks, self.chosen[number])


def _planted(spec: Spec, sample: int | None, own: OwnParameters | None) -> _Planted:
    problem = build_problem(spec, own)
    subject, looks = Mutated.of(network_subject(spec, problem)), Remembered()
    right = subject.check(spec.check, looks=looks).verdict
    if right is Verdict.WRONG:
        raise UntrustedReferenceError(
            "the check calls gradcheck's own backprop wrong before any mistake is planted"
        )
    all_plants = list(plants(problem))
    chosen = _drawn(all_plants, sample or _usual(problem, all_plants), spec.check.seed)
    how = spec.check.model_copy(update={"jobs": 1})  # the mistakes are split among processes instead
    return _Planted(subject, how, looks, right, len(all_plants), chosen)


@dataclass(frozen=True)
class _Planting:
    """The same work for workers, each of which draws the same mistakes.

    loss: the loss of the network, which every worker must reproduce.
    """

    spec: Spec
    sample: int | None
    own: OwnParameters | None
    loss: float

    @np.errstate(all="ignore")
    def begin(self) -> Callable[[range], list[Mutant]]:
        planted = _planted(self.spec, self.sample, self.own)
        if not np.isclose(planted.subject.said.loss, self.loss, rtol=_SAME, atol=0.0, equal_nan=True):
            message = "the network has a different loss in a worker process"
            raise bad_input(message, "data", help="use the same data and parameters on every machine")

        @np.errstate(all="ignore")
        def mutants(numbers: range) -> list[Mutant]:
            return list(map(planted.mutant, numbers))

        return mutants


_SAME = 1e-9
"""The largest relative difference of the losses of one network on two machines."""


def _by_workers(
    planted: _Planted, task: _Planting, executor: Executor | str
) -> Generator[tuple[int, Mutant], None, None]:
    """Yield the number of each mistake and its mutant. The first one is timed in this process."""
    count, start = len(planted.chosen), perf_counter()
    yield from enumerate(map(planted.mutant, range(min(1, count))))
    seconds, engine = perf_counter() - start, engine_of(executor)
    if engine is None or count <= 1:
        yield from ((number, planted.mutant(number)) for number in range(1, count))
        return
    from gradcheck_cli.parallel.parts import Shared, cuts

    with engine.opened() as opened:
        shared = Shared(opened, task)
        cut = cuts(count - 1, seconds, max(1, opened.width()), opened.shortest)
        parts = [range(1, count)[each] for each in cut]
        for number, done in shared.each(parts):
            yield from zip(parts[number], done.value, strict=True)


def _usual(problem: Problem, among: Sequence[Plant]) -> int:
    """Return how many mistakes to plant by default. The number suffices for at least one of each kind."""
    return len(among) if has_rows(problem) else max(USUAL, len({plant.wrong.kind for plant in among}))


def _drawn(among: Sequence[Plant], count: int, seed: int) -> list[Plant]:
    """Return a random sample of `count` planted mistakes, in their original order.

    The sample takes one mistake of each kind before it takes a second mistake of any kind, and so on.
    """
    order = np.random.default_rng(seed).permutation(len(among))
    kinds: Counter[str] = Counter()
    rounds = {}
    for i in map(int, order):
        rounds[i] = kinds[among[i].wrong.kind]
        kinds[among[i].wrong.kind] += 1
    chosen = sorted(map(int, order), key=rounds.__getitem__)[:count]
    return [among[i] for i in sorted(chosen)]


def _mutant(subject: Mutated, how: CheckSpec, looks: Looks, plant: Plant) -> Mutant:
    right = subject.analytic.values
    values = {name: plant.gradients[name].astype(subject.analytic.dtypes[name]) for name in right}
    effect = max(_effect(values[name], right[name]) for name in right)
    wrong = plant.wrong
    mutant = Mutant(wrong.kind, wrong.family.name, plant.where, plant.formula(subject.problem), effect)
    if not effect > NOTICEABLE or not any(_is_visible(subject, name, values[name]) for name in right):
        return replace(mutant, shown_by=_shown_by(plant, subject))
    analytic = Analytic(values, subject.analytic.dtypes, "a planted mistake")
    report = replace(subject, analytic=analytic).check(how, looks=looks)
    answers = report.diagnosis.answers if report.diagnosis else ()
    kinds = [tuple(cause.kind for cause in answer.causes) for answer in answers]
    return replace(
        mutant,
        verdict=report.verdict,
        named=bool(kinds) and len(kinds[0]) == 1 and wrong.is_said_by(kinds[0]),
        tied=(wrong.kind,) in kinds[1:],
        said=kinds[0] if kinds else (),
    )


def _effect(wrong: Array, right: Array) -> float:
    largest = float(np.abs(right).max(initial=0.0))
    off = float(np.abs(wrong - right).max(initial=0.0))
    return np.inf if np.isnan(off) else off / largest if largest else float(off > 0)


def _is_visible(subject: NetworkSubject, name: str, wrong: Array) -> bool:
    """Return whether `wrong` has wrong entries in a comparison with the exact gradient of tensor `name`."""
    right = subject.analytic.values[name].astype(np.float64)
    exact = Estimate(right, np.zeros(right.shape))
    rtol = default_rtol(subject.analytic.dtypes[name])
    return bool(compare(name, wrong, exact, subject.rounding[name], rtol).wrong.any())


# --- what would show an invisible mistake ------------------------------------------------------------------


def _shown_by(plant: Plant, subject: NetworkSubject) -> str:
    """Return a description of the data, parameters or settings that would reveal an invisible mistake."""
    problem, wrong = subject.problem, plant.wrong
    unchecked = _noticed(plant, problem) - subject.analytic.values.keys()
    if unchecked:
        return INPUTS_LEFT_OUT if unchecked == {INPUTS} else LEFT_OUT
    if len(problem.x) == 1 and wrong.family.over_samples:
        return MORE_SAMPLES
    if wrong.family.in_activation and not _shows_anywhere(plant, problem):
        return NO_MISTAKE
    return wrong.what_shows_it


def _shows_anywhere(plant: Plant, problem: Problem) -> bool:
    """Return whether the mistake changes a gradient at random parameters and inputs.

    Random pre-activations lie on both sides of every kink. Yet relu'(a) in place of relu'(z) changes nothing
    even at such points, since the two derivatives are equal.
    """
    drawn = np.random.default_rng(0)
    parameters = {name: drawn.normal(size=value.shape) for name, value in problem.parameters.items()}
    other = replace(problem, parameters=parameters, x=drawn.normal(size=problem.x.shape))
    return any(_noticed(there, other) for there in planted_like(other, plant))


def _noticed(plant: Plant, problem: Problem) -> set[str]:
    """Return the names of the gradients that the mistake changes, ∂L/∂x among them."""
    whole = with_inputs(problem)
    right = gradients(whole.network, whole.parameters, whole.x, whole.target)
    return {name for name in right if _effect(plant.gradients[name], right[name]) > NOTICEABLE}


def by_kind(mutants: Sequence[Mutant]) -> dict[str, list[Mutant]]:
    """Return the mutants grouped by kind. The kinds are in order of first occurrence."""
    kinds: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        kinds.setdefault(mutant.kind, []).append(mutant)
    return kinds
