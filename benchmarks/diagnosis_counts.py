"""Count what the diagnosis benchmark finds, and print it next to its targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from by_hand import Case
from plants import KINDS, Plant

from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.diagnose.nameable import NAMEABLE
from gradcheck_cli.diagnose.other_networks import KIND as ANOTHER_NETWORK


def named(answer: Answer, plant: Plant) -> bool:
    """Return whether the answer names this mistake and nothing else."""
    return len(answer.causes) == 1 and answer.causes[0].kind in plant.right_kinds


def layers_of(where: Iterable[str], case: Case) -> set[str]:
    """Return the layers that these names refer to, directly or as names of their tensors."""
    names = {layer.name for layer in case.layers}
    return {each if each in names else each.rsplit(".", 1)[0] for each in where}


def places(plant: Plant, case: Case) -> list[set[str]]:
    """Return the names of layers and tensors that an answer may give as the place of this mistake."""
    output, every = {case.layers[-1].name}, {layer.name for layer in case.layers}
    made = set(plant.layers(case))
    if plant.whole:
        return [set(), every, output]
    right = [made, set()] if made == every or plant.family == "loss" else [made]
    if all(
        edit.part == "below" for edit in plant.edits
    ):  # an answer may blame the weights above or the δ below
        names = [layer.name for layer in case.layers]
        right.append({names[names.index(layer) - 1] for layer in made})
    if plant.kind == "overflow":  # the mistake spreads from its layer to the layers below
        right.append(set(plant.layers(case)[:1]))
    return right


def placed(cause: Cause, plant: Plant, case: Case) -> bool:
    return layers_of(cause.where, case) in places(plant, case)


CONSTANT_FACTORS = frozenset(
    {
        "bias averaged",
        "batch norm: gradient of gamma or beta averaged",
        "class weights normalised by N",
        "clipped by norm",
        "accumulated",
    }
)
"""Kinds that "a tensor is wrong by a constant factor" also describes correctly."""


def related(cause: Cause, plant: Plant, case: Case) -> bool:
    """Return whether the answer describes the same mistake as another kind, or as another layer."""
    scales = "scale or reduction"
    return (
        (cause.kind == ANOTHER_NETWORK and placed(cause, plant, case))
        or cause.family == plant.family
        or (cause.family == scales and plant.kind in CONSTANT_FACTORS)
        or (plant.family == scales and cause.kind in CONSTANT_FACTORS)
        or any(row.kind == cause.kind and row.is_said_by(plant.right_kinds) for row in NAMEABLE)
    )


def known(diagnosis: Diagnosis, plant: Plant, case: Case) -> set[str]:
    """Return the outcomes to count if the diagnosis knows every kind."""
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
    """Return the outcomes to count if the planted kind is withheld from the diagnosis.

    before: the answer when the kind was not withheld.
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
    """Return the layer at fault, or the two layers that may be blamed; nothing if there are several."""
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
    """Return the outcomes to count for two mistakes at once."""
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


# --- the tables --------------------------------------------------------------------------------------------


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
"""The denominator of each share that is not a share of all planted mistakes."""


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
