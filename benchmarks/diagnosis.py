"""Plant mistakes of every kind in random networks, and count whether the diagnosis names them.

    python benchmarks/diagnosis.py [--networks 100] [--seed N] [--family NAME] [--kinds NAME ...] [--jobs 2]
    python benchmarks/diagnosis.py --layers [--networks 10] [--seed N] [--jobs 2]

With --layers, the mistakes are in layers of every kind: convolutions, pooling, norms, embeddings, recurrent
layers, attention and gated layers (`layer_diagnosis.py`). Without it, the networks are chains of dense
layers, and there are three questions, each with new random networks and mistakes:

    a  every kind is known                 does the diagnosis name the planted mistake and its place?
    b  the planted kind is withheld        does it admit that it does not know, and say where the fault is?
    c  two mistakes at once                does it name both?

A mistake counts only if the check calls the gradient wrong. "With ties" means that the first answer leads to
the same gradient as the planted mistake on this network, up to rounding, and that the planted kind is among
the answers, too. Without --seed, a random seed is drawn and printed. To repeat what --verbose prints for one
network, use --family, --seed and --networks 1. The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import layer_diagnosis
import numpy as np
from by_hand import Case, Gradients
from diagnosis_counts import Tally, both, known, print_tables, print_targets, removed
from diagnosis_networks import NETWORKS, case_or_none, pairs, planted
from plants import KINDS, Plant

from gradcheck_cli import Verdict, check
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.spec.gradients import GradientFile

NOTHING = Diagnosis((), 0, (), (), "network")


def diagnosis_of(case: Case, gradients: Gradients, without: frozenset[str] = frozenset()) -> Diagnosis | None:
    """Return the diagnosis of these gradients, without the kinds in `without`; None if the gradients pass."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "gradients.npz")
        np.savez(file, **gradients)
        report = check(case.spec.model_copy(update={"gradients": GradientFile(file=file)}))
    if report.verdict is not Verdict.WRONG:
        return None
    return diagnose(report.comparisons, case.problem, without=without) if without else report.diagnosis


def examine(family: str, seed: int, kinds: Collection[str] = tuple(KINDS), most_pairs: int = 12) -> Tally:
    """Plant one mistake of every kind in one network, and then this many pairs of mistakes."""
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
        for some in pairs(case, found, np.random.default_rng(seed), most_pairs):
            _ask_both(place, case, *some, tally)
    return tally


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", action="store_true", help="mistakes in layers of every kind")
    parser.add_argument("--networks", type=int, help="100 over all families, or 10 of each kind of layer")
    parser.add_argument("--seed", type=int, default=int(np.random.default_rng().integers(2**31)))
    parser.add_argument("--family", choices=list(NETWORKS), action="append")
    parser.add_argument("--kinds", choices=list(KINDS), nargs="+", default=list(KINDS), metavar="NAME")
    parser.add_argument("--pairs", type=int, default=12, help="how many pairs of mistakes per network")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="every miss, with its family and seed")
    options = parser.parse_args()
    if options.layers:
        return int(layer_diagnosis.run(options.networks or 10, options.seed, options.jobs))
    families, count = options.family or list(NETWORKS), options.networks or 100
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


if __name__ == "__main__":
    sys.exit(main())
