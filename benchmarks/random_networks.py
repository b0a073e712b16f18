"""Check random networks: no right gradient may be called wrong, and every mistake must be called wrong.

    python benchmarks/random_networks.py [--part dense|layers] [--networks N] [--seed N] [--family NAME]
                                         [--jobs 2]

There are two parts, and both run by default. `dense` has 1,000 chains of dense layers from eight families.
`layers` has 600 networks with every kind of layer and loss, which are plain, in float32, badly scaled, on
kinks or deep.

For comparison, the chains and their gradients are judged by rules in common use, each with central
differences of the total loss in float64:

    textbook   h = 1e-5, wrong if the relative error of any entry is above 1e-5
    torch      h = 1e-6, wrong if |a − n| > 1e-5 + 1e-3 |n| for any entry (torch.autograd.gradcheck)
    jax        h = 1e-4 along one random direction, wrong if gradient and difference differ by more than
               1e-5 + 1e-5 |n| (2e-3 in float32; jax.test_util.check_grads)

Here a is the gradient and n the difference. Without --seed, a random seed is drawn and printed. The exit code
is 1 if a right gradient is called wrong, a visible mistake agrees, or a plain chain is left unresolved.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import layer_networks
import numpy as np
from mistakes import MISTAKES, Excuses, effect
from random_networks import FAMILIES, Raw, problem_or_none

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import Problem

Gradients = dict[str, np.ndarray]


class Tally(NamedTuple):
    """Verdicts of all rules.

    rights: (rule, family) → verdicts on right gradients.
    plants: (rule, mistake) → verdicts on mistakes.
    """

    rights: Counter[tuple[str, str, str]]
    plants: Counter[tuple[str, str, str]]
    remarks: list[str]


# --- the rules of others -----------------------------------------------------------------------------------


def differences(problem: Problem, h: float) -> Gradients:
    """Return central differences of the total loss, entry by entry."""
    result = {}
    for name, shape in problem.network.shapes.items():
        entries, penalty = problem.objective.entries(name), problem.objective.penalty(name)
        which = np.arange(int(np.prod(shape)))
        totals = []
        for to in (entries.position - h, entries.position + h):
            total = entries.move(which, to).losses.sum(axis=1)
            totals.append(total if penalty is None else total + penalty.move(which, to).losses)
        result[name] = ((totals[1] - totals[0]) / (2.0 * h)).reshape(shape)
    return result


def along(problem: Problem, h: float) -> tuple[Gradients, float]:
    """Return a random direction, and the central difference of the total loss along it."""
    rng = np.random.RandomState(0)
    direction = {name: rng.standard_normal(shape) for name, shape in problem.network.shapes.items()}
    totals = []
    for sign in (-1.0, 1.0):
        moved = {name: problem.parameters[name] + sign * h * direction[name] for name in direction}
        totals.append(type(problem.objective)(problem.network, moved, problem.x, problem.target).total)
    return direction, float(totals[1] - totals[0]) / (2.0 * h)


class Others:
    """The differences that the other rules need for one problem, computed once, and the rules' verdicts."""

    def __init__(self, problem: Problem) -> None:
        self._coarse, self._fine = differences(problem, 1e-5), differences(problem, 1e-6)
        self._direction, self._slope = along(problem, 1e-4)
        self._tolerance = 2e-3 if problem.dtype == np.float32 else 1e-5

    def verdicts(self, a: Gradients) -> dict[str, bool]:
        """Return, for each rule, whether it calls the gradients wrong."""
        with np.errstate(all="ignore"):
            textbook = any(
                not (
                    np.nan_to_num(np.abs(a[name] - n) / np.maximum(np.abs(a[name]), np.abs(n)), nan=0.0)
                    <= 1e-5
                ).all()
                or not np.isfinite(a[name]).all()
                for name, n in self._coarse.items()
            )
            torch = any(
                not (np.abs(a[name] - n) <= 1e-5 + 1e-3 * np.abs(n)).all() for name, n in self._fine.items()
            )
            inner = sum(float((a[name] * d).sum()) for name, d in self._direction.items())
            jax = not abs(inner - self._slope) <= self._tolerance * (1.0 + abs(self._slope))
        return {"textbook": textbook, "torch": torch, "jax": jax}


# --- one network -------------------------------------------------------------------------------------------


def examine(job: tuple[str, int]) -> Tally:
    """Collect all rules' verdicts on the right gradients of one network and on every planted mistake."""
    family, seed = job
    tally = Tally(Counter(), Counter(), [])
    raw = FAMILIES[family](seed)
    problem = problem_or_none(raw)
    if problem is None:
        tally.rights["ours", family, "no finite loss"] += 1
        return tally
    with np.errstate(all="ignore"):
        report, others = check(Spec.model_validate(raw)), Others(problem)
        right = our_gradients(problem)
    tally.rights["ours", family, report.verdict.value] += 1
    if report.verdict is Verdict.WRONG:
        tally.remarks.append(f"{family} {seed}: right, and called wrong: {report.worst(1)}")
    for rule, wrong in others.verdicts(right).items():
        tally.rights[rule, family, "wrong" if wrong else "agrees"] += 1
    if report.verdict is not Verdict.WRONG:
        plant(job, raw, problem, right, others, tally)
    return tally


def our_gradients(problem: Problem) -> Gradients:
    """Compute backprop in the spec's own arithmetic."""
    dtype = problem.dtype
    parameters = {name: value.astype(dtype) for name, value in problem.parameters.items()}
    return gradients(problem.network, parameters, problem.x.astype(dtype), problem.target.astype(dtype))


def plant(
    job: tuple[str, int], raw: Raw, problem: Problem, right: Gradients, others: Others, tally: Tally
) -> None:
    excuses = Excuses(problem, right)
    with np.errstate(all="ignore"):
        exact = gradients(problem.network, problem.parameters, problem.x, problem.target)
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for name, mistake in MISTAKES.items():
            wrong = {key: value.astype(problem.dtype) for key, value in mistake(problem, exact).items()}
            if excuse := excuses.of(wrong):
                tally.plants["ours", name, excuse] += 1
                continue
            file = Path(folder, "gradients.npz")
            np.savez(file, **wrong)
            report = check(Spec.model_validate({**raw, "gradients": {"file": file}}))
            tally.plants["ours", name, report.verdict.value] += 1
            if report.verdict is not Verdict.WRONG:
                off = effect(wrong, right)
                tally.remarks.append(f"{job[0]} {job[1]}: '{name}' {report.verdict}, effect {off:.1e}")
            for rule, called_wrong in others.verdicts(wrong).items():
                tally.plants[rule, name, "wrong" if called_wrong else "agrees"] += 1


# --- the table ---------------------------------------------------------------------------------------------

RULES = ("ours", "textbook", "torch", "jax")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["dense", "layers"], help="by default both")
    parser.add_argument("--networks", type=int, help="how many in each part; by default 1,000 and 600")
    parser.add_argument("--seed", type=int, default=int(np.random.default_rng().integers(2**31)))
    parser.add_argument("--family", choices=list(FAMILIES), action="append", help="of the part `dense`")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    print(f"seed {options.seed}")
    failures = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.part != "layers":
            families = options.family or list(FAMILIES)
            failures += dense(pool, options.networks or 1000, options.seed, families)
        if options.part != "dense" and not options.family:
            failures += layer_networks.run(pool, options.networks or 600, options.seed)
    return int(failures > 0)


def dense(pool: ProcessPoolExecutor, count: int, seed: int, families: list[str]) -> bool:
    """Check chains of dense layers; return whether a verdict is false."""
    print(f"{count} chains of dense layers")
    rights: Counter[tuple[str, str, str]] = Counter()
    plants: Counter[tuple[str, str, str]] = Counter()
    jobs = [(families[i % len(families)], seed + i) for i in range(count)]
    for tally in pool.map(examine, jobs, chunksize=4):
        rights += tally.rights
        plants += tally.plants
        for remark in tally.remarks:
            print(" ", remark)
    print_rights(rights, families)
    print_plants(plants)
    return failed(rights, plants)


def print_rights(rights: Counter[tuple[str, str, str]], families: list[str]) -> None:
    print(
        f"\n{'right gradients':>16}  {'networks':>8}  {'unresolved':>10}   called wrong: " + "  ".join(RULES)
    )
    for family in [*families, "all"]:
        of = families if family == "all" else [family]

        def count(rule: str, verdict: str, of: list[str] = of) -> int:
            return sum(rights[rule, each, verdict] for each in of)

        total = sum(count("ours", verdict) for verdict in Verdict)
        called = "  ".join(f"{count(rule, 'wrong') / max(total, 1):>{len(rule)}.1%}" for rule in RULES)
        print(f"{family:>16}  {total:>8}  {count('ours', 'unresolved'):>10}   {'':>13} {called}")


def print_plants(plants: Counter[tuple[str, str, str]]) -> None:
    width = max(map(len, MISTAKES))
    print(f"\n{'planted':>{width}}  visible  unresolved   passed by: " + "  ".join(RULES))
    for name in [*MISTAKES, "all"]:
        of = list(MISTAKES) if name == "all" else [name]

        def count(rule: str, verdict: str, of: list[str] = of) -> int:
            return sum(plants[rule, each, verdict] for each in of)

        total = sum(count("ours", verdict) for verdict in Verdict)
        passed = "  ".join(f"{count(rule, 'agrees') / max(total, 1):>{len(rule)}.1%}" for rule in RULES)
        print(f"{name:>{width}}  {total:>7}  {count('ours', 'unresolved'):>10}   {'':>10} {passed}")
        if name == "all":
            caught = count("ours", "wrong") / max(total, 1)
            print(
                f"\nOf {total} visible mistakes {caught:.3%} called wrong, {count('ours', 'agrees')} agree; "
                f"{count('ours', 'invisible')} are invisible and {count('ours', 'hidden by rounding')} are "
                "within the rounding of a right gradient, and "
                f"{count('ours', 'a usual convention')} are another convention at a kink."
            )


def failed(rights: Counter[tuple[str, str, str]], plants: Counter[tuple[str, str, str]]) -> bool:
    false_alarms = sum(n for (rule, _, verdict), n in rights.items() if (rule, verdict) == ("ours", "wrong"))
    passed = sum(n for (rule, _, verdict), n in plants.items() if (rule, verdict) == ("ours", "agrees"))
    return bool(false_alarms or passed or rights["ours", "plain", "unresolved"])


if __name__ == "__main__":
    sys.exit(main())
