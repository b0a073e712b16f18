"""Mistakes made in a parameter's gradient after all parts of the gradient have been computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from gradcheck_cli.diagnose.branches import ONE_USE, USE_LOST
from gradcheck_cli.diagnose.finished import Candidate, fitted, scaled_to, tensor_factors
from gradcheck_cli.diagnose.fit import affine_if_any
from gradcheck_cli.diagnose.mistake import Wrong, WrongTensor
from gradcheck_cli.diagnose.state import Made, number_of
from gradcheck_cli.diagnose.table import CLIPPED, SWAPPED, TENSOR_FACTOR
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_penalties import PAIRED_PENALTY_MISTAKES, PENALTY_MISTAKES
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array

Allowed = Callable[[str], bool]


def allowed_after(made: Sequence[Made], most: int, without: frozenset[str]) -> Allowed:
    """Return a function that tells whether one more kind of mistake in a single tensor is allowed.

    made: the mistakes made so far.
    most: the largest number of mistakes. If `made` already holds that many, only the kinds in `made` are
        allowed.
    """
    known = {each.wrong.kind for each in made}
    if number_of(made) >= most:
        return known.__contains__
    left_out = without - {TENSOR_FACTOR.kind}  # a factor may turn out to be a mistake with a name of its own
    return lambda kind: kind not in left_out


@dataclass(frozen=True)
class Complete:
    """The complete gradient of a parameter, as a matrix or a vector.

    layer: the name of the parameter's layer.
    uses: the parts of the gradient, one for each use of the parameter. The key of a part describes the use.
    penalty: the correct penalty terms of the gradient.
    """

    problem: Problem
    target: Target
    layer: str
    uses: Mapping[str, Array]
    penalty: Array

    @property
    def data(self) -> Array:
        """The parameter's gradient without its penalty terms: the sum over all uses of the parameter."""
        first, *others = self.uses.values()
        return sum(others, first)

    def wrong(self, is_allowed: Allowed, targets: Mapping[str, Target]) -> Iterator[Candidate]:
        """Yield each mistake that this gradient may contain, with the gradient that results.

        is_allowed: a function that returns whether a kind of mistake may be tried.
        targets: the gradients of all parameters.
        """
        data = self.data
        sums = [((), data), *self._lost_uses(is_allowed)]
        penalties = [((), self.penalty), *self._wrong_penalties(is_allowed, data)]
        for (made, d), (more, p) in product(sums, penalties):
            if made or more:
                yield (*made, *more), d + p
        for wrong in (TENSOR_FACTOR, CLIPPED, SWAPPED, *TENSOR_MISTAKES):
            if is_allowed(wrong.kind):
                yield from self._spoilt(wrong, data, targets)

    def _made(self, wrong: Wrong, value: float | None = None, place: str = "", early: bool = False) -> Made:
        return Made(wrong, self.layer, self.target.name, value, place, early)

    def _lost_uses(self, is_allowed: Allowed) -> Iterator[Candidate]:
        """Yield the gradients that leave out one use of the parameter, and those that count only one use."""
        if len(self.uses) < 2 or not is_allowed(USE_LOST.kind):
            return
        data = self.data
        for use, part in self.uses.items():
            yield (self._made(ONE_USE, place=use),), part
            if len(self.uses) > 2:
                yield (self._made(USE_LOST, place=use),), data - part

    def _wrong_penalties(self, is_allowed: Allowed, data: Array) -> Iterator[Candidate]:
        name = self.target.name
        for wrong in (*PENALTY_MISTAKES, *PAIRED_PENALTY_MISTAKES):
            if not is_allowed(wrong.kind):
                continue
            terms = [wrong.term(self.problem, name, value) for value in (0.0, 1.0)]
            value = affine_if_any(self.target.found - data, *terms) if wrong.unknown else 0.0
            term = wrong.term(self.problem, name, value)
            if term is not None:
                yield (self._made(wrong, value if wrong.unknown else None),), term

    def _spoilt(self, wrong: Wrong, data: Array, targets: Mapping[str, Target]) -> Iterator[Candidate]:
        if isinstance(wrong, WrongTensor):
            for spoilt, early in fitted(wrong, self.target, data, self.penalty):
                yield (self._made(wrong, spoilt.value, spoilt.place, early),), spoilt.gradient
        elif wrong is SWAPPED:
            for other in targets.values():
                if other.can_stand_for(self.target):
                    yield (self._made(wrong, place=other.name),), other.right
        elif not self.target.is_nothing:
            for factor, candidate in tensor_factors(self.target, data, self.penalty):
                yield from scaled_to(wrong, self.layer, self.target, factor, candidate)
