"""Plant a mistake in the backward pass of random programs with taps, and see which place gradcheck names.

    python benchmarks/taps.py [--programs 220] [--seed N]
    python benchmarks/taps.py --replay SEED

A program is a random graph of 6 to 14 operations in numpy. Most results pass a tap, and every operation has
a backward written by hand. One mistake is planted in each program: in the backward of one operation, or
where the gradients of a result that is used more than once are added up. Half of the programs are checked by
`check_gradients`, and the other half as a layer, by `check_layer`.

A mistake counts if it clearly changes some gradient. gradcheck must call the gradients wrong and name a
place, and every place that it names must contain the mistake. The same programs without a mistake must
agree. Without --seed, a random seed is drawn and printed. The exit code is 1 if any of this fails.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tap_programs import Program, planted, program

from gradcheck_cli import (
    Report,
    UndecidedGradientError,
    WrongGradientError,
    check_gradients,
    check_layer,
)

# --- the place --------------------------------------------------------------------------------------------

_NAMED = re.compile(r"∂L/∂(\w+)(?: \([\w.]+:\d+\))?")


@dataclass(frozen=True)
class Place:
    """A place that gradcheck names: between some taps, or the loss, and a tensor below them.

    past: whether the place includes paths to the loss that have no tap.
    """

    above: frozenset[str]
    below: str
    past: bool

    @classmethod
    def of(cls, sentence: str) -> Place:
        place, _, _ = sentence.partition(";")  # another cause may follow
        *above, below = _NAMED.findall(place)
        return cls(frozenset(above), below, not above or "on a path without taps" in sentence)


def holds(given: Program, place: Place) -> bool:
    """Return whether a place contains the mistake of a program."""
    assert given.mistake is not None
    return any(_between(given, place, *edge) for edge in given.mistake.edges)


def _between(given: Program, place: Place, number: int, argument: int) -> bool:
    """Return whether a place contains the step of backward that computes the gradient of an argument."""
    return _leads_up(given, place, number) and place.below in _names_below(given, number, argument)


def _leads_up(given: Program, place: Place, number: int) -> bool:
    """Return whether a path without further taps leads from a node to a tap above the place, or the loss."""
    if given.nodes[number - 1].tapped:
        return f"t{number}" in place.above
    uses = [k for k, node in enumerate(given.nodes, 1) if number in node.inputs]
    return any(_leads_up(given, place, k) for k in uses) if uses else place.past


def _names_below(given: Program, number: int, argument: int) -> set[str]:
    """Return the tensors that the gradient of an argument reaches without passing a tap."""
    node = given.nodes[number - 1]
    if argument >= len(node.inputs):
        return {node.weights[argument - len(node.inputs)]}
    i = node.inputs[argument]
    if i == 0:
        return {"x"}
    below = given.nodes[i - 1]
    if below.tapped:
        return {f"t{i}"}
    count = len(below.inputs) + len(below.weights)
    return set().union(*(_names_below(given, i, each) for each in range(count)))


# --- trials -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A program with a mistake that was checked.

    places: each sentence that names a place, and whether the mistake is there.
    """

    seed: int
    mistake: str
    verdict: str
    places: tuple[tuple[str, bool], ...]

    @property
    def named(self) -> bool:
        return bool(self.places) and all(held for _, held in self.places)

    @property
    def misplaced(self) -> bool:
        return any(not held for _, held in self.places)


def report_of(given: Program, seed: int) -> Report:
    try:
        if seed % 2:
            return check_layer(*given.as_layer(), given.parameters, outputs=len(given.ends))
        return check_gradients(given.loss_and_gradients, given.parameters)
    except (WrongGradientError, UndecidedGradientError) as error:
        return error.report


def trial(seed: int) -> Trial:
    """Check a program with a mistake."""
    given = planted(seed)
    assert given.mistake is not None
    report = report_of(given, seed)
    said = report.diagnosis.places if report.diagnosis else ()
    places = tuple((each, holds(given, Place.of(each))) for each in said if "the fault lies" in each)
    where = f"{given.nodes[given.mistake.node - 1].kind} (node {given.mistake.node})"
    return Trial(seed, f"{given.mistake.name} in {where}", report.verdict.value, places)


def right(seed: int) -> str:
    """Return the verdict on a program without a mistake."""
    return report_of(program(seed), seed).verdict.value


def told(found: Trial) -> str:
    lines = [f"{found.seed}: {found.mistake}: {found.verdict}"]
    lines += [f"    {'✓' if held else '✗'} {sentence}" for sentence, held in found.places]
    return "\n".join(lines)


# --- the command ------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    if options.replay is not None:
        print(told(trial(options.replay)), shown(planted(options.replay)), sep="\n")
        return 0
    print(f"{options.programs} programs from --seed {options.seed}", flush=True)
    seeds = range(options.seed, options.seed + options.programs)
    trials, verdicts = [], []
    for seed in seeds:
        trials.append(found := trial(seed))
        verdicts.append(right(seed))
        if not found.named:
            print(told(found), flush=True)
        if verdicts[-1] != "agrees":
            print(f"{seed}: without a mistake: {verdicts[-1]}", flush=True)
    print(summary(trials, verdicts))
    return int(not all(each.named for each in trials) or "wrong" in verdicts)


def summary(trials: Sequence[Trial], verdicts: Sequence[str]) -> str:
    count = len(trials)
    return "\n".join(
        [
            f"called wrong: {sum(each.verdict == 'wrong' for each in trials)} of {count} planted mistakes",
            f"place named: {sum(bool(each.places) for each in trials)} of {count}",
            f"a wrong place named: {sum(each.misplaced for each in trials)} of {count}",
            f"without a mistake, agree: {verdicts.count('agrees')} of {count}",
            f"without a mistake, called wrong: {verdicts.count('wrong')} of {count}",
        ]
    )


def shown(given: Program) -> str:
    """Return the program as text, one node a line."""
    return "\n".join(
        f"  {number}{'t' if node.tapped else ' '} {node.kind}{node.inputs} {' '.join(node.weights)}"
        for number, node in enumerate(given.nodes, 1)
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=220)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--replay", type=int, metavar="SEED", help="check one program, and print it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
