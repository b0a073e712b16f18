"""Plant mistakes of every kind in random networks, and count whether the diagnosis names them.

    python benchmarks/diagnosis.py [--networks 100] [--seed N] [--family NAME] [--kinds NAME ...] [--jobs 2]

There are three questions, each with new random networks and mistakes:

    a  every kind is known                 does it name the planted mistake and its place?
    b  the planted kind is not tried       does it say that it does not know, and where the fault is?
    c  two mistakes at once                does it name both?

Only mistakes that a check can see and calls wrong count. "With ties" means that the answer's wrong gradient
equals the planted one to rounding on this network, and the planted kind is among the answers, too. Without
--seed, a new one is drawn and printed. To repeat what --verbose says of a network, use --family, --seed and
--networks 1. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from by_hand import Case, Gradients, by_hand
from mistakes import VISIBLE, Excuses
from plants import FAMILY_OF, KINDS, Plant, differ, draw, together
from random_networks import FAMILIES, Raw, problem_or_none, random_spec

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.diagnose.other_networks import KIND as ANOTHER_NETWORK
from gradcheck_cli.diagnose.table import NAMEABLE
from gradcheck_cli.spec.gradients import GradientFile

NOTHING = Diagnosis((), 0, (), (), "network")


def diagnosis_of(case: Case, gradients: Gradients, without: frozenset[str] = frozenset()) -> Diagnosis | None:
    """Return the diagnosis of these gradients without trying the kinds in `without`; None if they pass."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "gradients.npz")
        np.savez(file, **gradients)
        report = check(case.spec.model_copy(update={"gradients": GradientFile(file=file)}))
    if report.verdict is not Verdict.WRONG:
        return None
    return diagnose(report.comparisons, case.problem, without=without) if without else report.diagnosis


# --- the networks ------------------------------------------------------------------------------------------


def _larger(seed: int) -> Raw:
    """Draw a spec with 3 to 12 units per layer and 4 to 32 samples."""
    raw, rng = random_spec(seed, scale=None), np.random.default_rng(seed)
    for layer in raw["network"]["layers"]:
        layer["units"] = int(rng.integers(3, 13))
    raw["data"]["samples"] = int(rng.integers(4, 33))
    return raw


NETWORKS: Mapping[str, Callable[[int], Raw]] = {
    "plain": FAMILIES["plain"],
    "kinked": FAMILIES["kinked"],
    "batch-normed": FAMILIES["batch-normed"],
    "mildly scaled": lambda seed: random_spec(seed, scale=(-1, 1)),
    "larger": _larger,
}
OPTIONS: Mapping[str, Callable[[np.random.Generator], Raw]] = {
    "leaky_relu": lambda rng: {"negative_slope": float(rng.choice([0.01, 0.1, 0.2, 0.3]))},
    "elu": lambda rng: {"alpha": float(rng.choice([0.5, 1.0, 1.5]))},
    "gelu": lambda rng: {"approximate": str(rng.choice(["none", "tanh"]))},
}


def case_or_none(family: str, seed: int) -> Case | None:
    """Return the network, equipped with parts that mistakes need; None if it has no finite loss."""
    raw = NETWORKS[family](seed)
    _furnish(raw, np.random.default_rng(seed))
    problem = problem_or_none(raw)
    return None if problem is None else Case(Spec.model_validate(raw), problem)


def _furnish(raw: Raw, rng: np.random.Generator) -> None:
    layers = raw["network"]["layers"]
    if "x" not in raw["data"]:  # explicit labels would fit no other network
        _shape(raw, rng)
    if rng.random() < 0.15 and raw["network"]["loss"]["name"] in ("mse", "l1", "huber"):
        layers[-1]["activation"] = "softmax"
    for layer in layers:
        name = layer["activation"]
        layer["activation"] = {"name": name, **OPTIONS.get(name, lambda rng: {})(rng)}
    _furnish_loss(raw["network"]["loss"], layers[-1]["units"], rng)
    strengths = [0.0, 0.0, 0.0, 1e-3, 1e-2]
    raw["network"]["penalty"] = {name: float(rng.choice(strengths)) for name in ("l1", "l2")}
    raw["network"]["penalty"]["biases"] = bool(rng.random() < 0.15)


def _shape(raw: Raw, rng: np.random.Generator) -> None:
    """Draw square weights, equal layers and as many samples as units, as mistakes of shape need."""
    layers, data = raw["network"]["layers"], raw["data"]
    if rng.random() < 0.4 and len(layers) > 1:
        i = int(rng.integers(1, len(layers)))
        layers[i]["units"] = layers[i - 1]["units"]
    if rng.random() < 0.2:
        layers[0]["units"] = raw["network"]["inputs"]
    if rng.random() < 0.2:
        data["samples"] = max(3, layers[int(rng.integers(len(layers)))]["units"])
    if rng.random() < 0.5:
        raw["parameters"]["bias"] = "same"


def _furnish_loss(loss: Raw, outputs: int, rng: np.random.Generator) -> None:
    if loss["name"] == "huber":
        loss["delta"] = float(rng.choice([0.3, 0.5, 1.0]))
    if loss["name"] == "cross_entropy":
        loss["label_smoothing"] = float(rng.choice([0.0, 0.1, 0.2]))
        if rng.random() < 0.5:
            loss["weight"] = [float(w) for w in rng.uniform(0.3, 3.0, size=outputs)]


# --- right or not ------------------------------------------------------------------------------------------


def named(answer: Answer, plant: Plant) -> bool:
    """Return whether the answer names this mistake and nothing else."""
    return len(answer.causes) == 1 and answer.causes[0].kind in plant.right_kinds


def layers_of(where: Iterable[str], case: Case) -> set[str]:
    """Return the layers that are named, or that contain the tensors named."""
    names = {layer.name for layer in case.layers}
    return {each if each in names else each.rsplit(".", 1)[0] for each in where}


def places(plant: Plant, case: Case) -> list[set[str]]:
    """Return the places that an answer may name for this mistake."""
    output, every = {case.layers[-1].name}, {layer.name for layer in case.layers}
    made = set(plant.layers(case))
    if plant.whole:
        return [set(), every, output]
    right = [made, set()] if made == every or plant.family == "loss" else [made]
    if all(edit.part == "below" for edit in plant.edits):  # named for the weights above, or for the δ below
        names = [layer.name for layer in case.layers]
        right.append({names[names.index(layer) - 1] for layer in made})
    if plant.kind == "overflow":  # it spreads to the layers below the one where it began
        right.append(set(plant.layers(case)[:1]))
    return right


def placed(cause: Cause, plant: Plant, case: Case) -> bool:
    return layers_of(cause.where, case) in places(plant, case)


CONSTANT_FACTORS = frozenset(
    {
        "bias averaged",
        "batch norm: gamma or beta averaged",
        "class weights normalised by N",
        "clipped by norm",
        "accumulated",
    }
)
"""Kinds of which "a tensor is off by a constant factor" is also a true description."""


def related(cause: Cause, plant: Plant, case: Case) -> bool:
    """Return whether another kind, or a network with another layer here, describes the same mistake."""
    scales = "scale or reduction"
    return (
        (cause.kind == ANOTHER_NETWORK and placed(cause, plant, case))
        or cause.family == plant.family
        or (cause.family == scales and plant.kind in CONSTANT_FACTORS)
        or (plant.family == scales and cause.kind in CONSTANT_FACTORS)
        or any(row.kind == cause.kind and row.is_said_by(plant.right_kinds) for row in NAMEABLE)
    )


def known(diagnosis: Diagnosis, plant: Plant, case: Case) -> set[str]:
    """Return what to count if every kind is known."""
    answers = diagnosis.answers
    if not answers:
        return {"unknown"}
    counted, right = set(), [answer for answer in answers if named(answer, plant)]
    if named(answers[0], plant):
        counted.add("top")
    if any(named(answer, plant) for answer in answers[:3]):
        counted.add("among three")
    if right:
        counted |= {"tied", "found"}
        if placed(right[0].causes[0], plant, case):
            counted.add("where")
    elif all(cause.family != plant.family for cause in answers[0].causes):
        counted.add("wrong family")
    return counted


def removed(diagnosis: Diagnosis, before: Diagnosis, plant: Plant, case: Case) -> set[str]:
    """Return what to count if the kind is withheld.

    before: the answer given when it was not withheld.
    """
    counted = set()
    if single := _single_layer(plant, case):
        top = layers_of(diagnosis.answers[0].causes[0].where, case) if diagnosis.answers else set()
        said = set(diagnosis.layers)
        counted.add("single layer")
        if any(place <= said or place == top for place in single):
            counted.add("layer")
        if any(place == said for place in single):
            counted.add("no other layer")
    return counted | {_without_its_kind(diagnosis, before, plant, case)}


def _single_layer(plant: Plant, case: Case) -> list[set[str]]:
    """Return the layer at fault, or the two that may be blamed; nothing if there are several."""
    alone = len(plant.layers(case)) == 1
    return [place for place in places(plant, case) if place] if alone else []


def _without_its_kind(diagnosis: Diagnosis, before: Diagnosis, plant: Plant, case: Case) -> str:
    if not diagnosis.answers:
        return "unknown"
    causes = diagnosis.answers[0].causes
    if any(related(cause, plant, case) for cause in causes):
        return "relative"
    if all(cause.family == "entries" for cause in causes):
        return "entries"
    kinds = [[cause.kind for cause in answer.causes] for answer in before.answers]
    was_tied = any(named(answer, plant) for answer in before.answers)
    return "coincides" if was_tied and [cause.kind for cause in causes] in kinds else "wrong family"


def both(diagnosis: Diagnosis, plants: tuple[Plant, Plant]) -> set[str]:
    """Return what to count for two mistakes at once."""
    if not diagnosis.answers:
        return {"unknown"}
    outcomes = [_of_two([cause.kind for cause in answer.causes], plants) for answer in diagnosis.answers]
    return {outcomes[0]} | ({"both tied"} if "both" in outcomes else set())


def _of_two(kinds: list[str], plants: tuple[Plant, Plant]) -> str:
    hits = [any(kind in plant.right_kinds for kind in kinds) for plant in plants]
    if all(hits) and len(kinds) == 2:
        return "both"
    others = [kind for kind in kinds if not any(kind in plant.right_kinds for plant in plants)]
    if any(hits) and set(others) <= {"unknown"}:
        return "one of two"
    return "wrong single" if len(kinds) == 1 else "wrong pair"


# --- one network -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Counts of (question, kind, outcome).

    remarks: every miss, with the options to reproduce it.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def add(self, question: str, kind: str, whats: Iterable[str]) -> None:
        self.counts.update((question, kind, what) for what in {"planted", *whats})

    def __iadd__(self, other: Tally) -> Tally:
        self.counts += other.counts
        self.remarks += other.remarks
        return self

    def rate(self, question: str, what: str, of: str = "planted", kinds: Collection[str] = ()) -> float:
        total = self.count(question, of, kinds)
        return self.count(question, what, kinds) / total if total else float("nan")

    def count(self, question: str, what: str, kinds: Collection[str] = ()) -> int:
        return sum(
            n
            for (asked, kind, counted), n in self.counts.items()
            if (asked, counted) == (question, what) and (not kinds or kind in kinds)
        )


def examine(family: str, seed: int, kinds: Collection[str] = tuple(KINDS), pairs: int = 12) -> Tally:
    """Plant one mistake of every kind, and this many pairs, in one network."""
    tally, place = Tally(), f"{family} {seed}"
    case = case_or_none(family, seed)
    if case is None or check(case.spec).verdict is Verdict.WRONG:
        tally.add("networks", "", ["no finite loss" if case is None else "right, and called wrong"])
        return tally
    tally.add("networks", "", [])
    with np.errstate(all="ignore"):
        found = []
        for plant in planted(case, seed, kinds):
            before = _ask_known(place, case, plant, tally)
            if before is not None:
                _ask_removed(place, case, plant, before, tally)
                found.append(plant)
        for some in _pairs(case, found, np.random.default_rng(seed), pairs):
            _ask_both(place, case, *some, tally)
    return tally


def planted(case: Case, seed: int, kinds: Collection[str]) -> Iterator[Plant]:
    """Return one visible mistake of each kind; each kind has its own random generator."""
    right = by_hand(case)
    excuses = Excuses(case.problem, right)
    for kind in kinds:
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        if FAMILY_OF[kind] == "precision":  # the verdict decides this one
            plant = draw(kind, case, rng, lambda wrong: differ(wrong, right, 1e-9))
        else:
            plant = draw(kind, case, rng, lambda wrong: not excuses.of(wrong))
        if plant is not None:
            yield plant


def _ask_known(place: str, case: Case, plant: Plant, tally: Tally) -> Diagnosis | None:
    diagnosis = diagnosis_of(case, plant.gradients(case))
    if diagnosis is None:
        tally.add("passed", plant.kind, [])
        tally.remarks.append(f"{place}: {plant.name}: not called wrong")
        return None
    counted = known(diagnosis, plant, case)
    tally.add("known", plant.kind, counted)
    if "top" not in counted or "where" not in counted:
        told = f", made in {', '.join(plant.layers(case)) or 'all'}"
        tally.remarks.append(f"{place}: {plant.name}{told}: {_said(diagnosis)}")
    return diagnosis


def _ask_removed(place: str, case: Case, plant: Plant, before: Diagnosis, tally: Tally) -> None:
    diagnosis = diagnosis_of(case, plant.gradients(case), plant.right_kinds)
    counted = removed(diagnosis or NOTHING, before, plant, case)
    tally.add("removed", plant.kind, counted)
    if "wrong family" in counted or {"single layer", "layer"} & counted == {"single layer"}:
        tally.remarks.append(f"{place}: withheld {plant.name}: {_said(diagnosis or NOTHING)}")


def _pairs(
    case: Case, plants: list[Plant], rng: np.random.Generator, count: int
) -> Iterator[tuple[Plant, Plant, Gradients]]:
    """Return compatible mistakes that remain visible next to each other, with their gradients."""
    right = by_hand(case)
    excuses = Excuses(case.problem, right)
    for _ in range(count if len(plants) > 1 else 0):
        first, second = (plants[k] for k in rng.choice(len(plants), size=2, replace=False))
        edits = together(first, second)
        if edits is None:
            continue
        wrong = by_hand(case, edits)
        singly = [plant.gradients(case) for plant in (first, second)]
        if not excuses.of(wrong) and all(differ(wrong, each, VISIBLE) for each in singly):
            yield first, second, wrong


def _ask_both(place: str, case: Case, first: Plant, second: Plant, wrong: Gradients, tally: Tally) -> None:
    diagnosis = diagnosis_of(case, wrong)
    if diagnosis is None:
        tally.add("passed", "two at once", [])
        tally.remarks.append(f"{place}: {first.name} + {second.name}: not called wrong")
        return
    counted = both(diagnosis, (first, second))
    tally.add("pairs", "two at once", counted)
    if "both" not in counted:
        tally.remarks.append(f"{place}: {first.name} + {second.name}: {_said(diagnosis)}")


def _said(diagnosis: Diagnosis) -> str:
    answers = [
        " + ".join(f"{cause.kind} {list(cause.where)}" for cause in answer.causes)
        for answer in diagnosis.answers[:4]
    ]
    return "; ".join(answers) or f"unknown, layers {list(diagnosis.layers)}"


# --- the tables --------------------------------------------------------------------------------------------

TARGETS: tuple[tuple[str, str, str, str, float], ...] = (
    ("a", "known", "tied", "at least", 0.99),
    ("a", "known", "among three", "at least", 0.997),
    ("a", "known", "wrong family", "at most", 0.005),
    ("b", "removed", "wrong family", "at most", 0.01),
    ("b", "removed", "layer", "at least", 0.99),
    ("c", "pairs", "both", "at least", 0.65),
    ("c", "pairs", "wrong single", "at most", 0.02),
)
COLUMNS = {
    "known": ("top", "tied", "among three", "where", "wrong family", "unknown"),
    "removed": ("unknown", "relative", "entries", "coincides", "wrong family", "layer", "no other layer"),
    "pairs": ("both", "both tied", "one of two", "unknown", "wrong single", "wrong pair"),
}
TITLES = {
    "known": "a: every kind is known",
    "removed": "b: the planted kind is withheld",
    "pairs": "c: two mistakes at once",
}
OF = {"where": "found", "layer": "single layer", "no other layer": "single layer"}
"""The denominator of a share, if it is not all that were planted."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=100, help="how many, over all families")
    parser.add_argument("--seed", type=int, default=int(np.random.default_rng().integers(2**31)))
    parser.add_argument("--family", choices=list(NETWORKS), action="append")
    parser.add_argument("--kinds", choices=list(KINDS), nargs="+", default=list(KINDS), metavar="NAME")
    parser.add_argument("--pairs", type=int, default=12, help="how many pairs of mistakes per network")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="every miss, with its family and seed")
    options = parser.parse_args()
    families, count = options.family or list(NETWORKS), options.networks
    print(f"{count} networks from seed {options.seed}")
    tally = Tally()
    with ProcessPoolExecutor(options.jobs) as pool:
        for each in pool.map(
            examine,
            [families[i % len(families)] for i in range(count)],
            range(options.seed, options.seed + count),
            [options.kinds] * count,
            [options.pairs] * count,
        ):
            tally += each
            if options.verbose:
                print(*each.remarks, sep="\n", end="\n" * bool(each.remarks), flush=True)
    print_tables(tally, options.kinds)
    return int(print_targets(tally))


def print_tables(tally: Tally, kinds: Collection[str]) -> None:
    width = max(map(len, KINDS))
    for question, columns in COLUMNS.items():
        print(f"\n{TITLES[question]:<{width}}  planted  " + "  ".join(columns))
        rows = [kind for kind in kinds if tally.count(question, "planted", [kind])]
        for kind in [*rows, "all"]:
            of = [] if kind == "all" else [kind]
            shares = (
                f"{tally.rate(question, what, OF.get(what, 'planted'), of):>{len(what)}.1%}"
                for what in columns
            )
            print(f"{kind:>{width}}  {tally.count(question, 'planted', of):>7}  " + "  ".join(shares))
    print(
        f"\n{tally.count('networks', 'planted')} networks, "
        f"{tally.count('networks', 'no finite loss')} of them without a finite loss and "
        f"{tally.count('networks', 'right, and called wrong')} called wrong though right. "
        f"Not called wrong, and so not asked about: {passed(tally) or 'none'}."
    )


def passed(tally: Tally) -> str:
    """Return the mistakes that passed the check, by kind."""
    counts = ((kind, tally.count("passed", "planted", [kind])) for kind in [*KINDS, "two at once"])
    return ", ".join(f"{kind} {count}" for kind, count in counts if count)


def print_targets(tally: Tally) -> bool:
    """Print the figures next to their targets, and return whether one is missed."""
    missed = False
    print()
    for letter, question, what, sense, target in TARGETS:
        rate = tally.rate(question, what, OF.get(what, "planted"))
        met = rate >= target if sense == "at least" else rate <= target
        missed |= not met
        print(f"{letter}  {what:<12}  {rate:>6.1%}  {sense} {target:.1%}  {'' if met else 'missed'}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
