"""Right gradients of random networks must not be called wrong, and mistakes planted in them must be.

    python benchmarks/random_networks.py [--networks 200] [--seed N] [--kinks] [--dtype float32]

Without --seed a fresh one is drawn and printed. Exits with 1 if an entry of a right gradient was called wrong
or a visible mistake agreed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from random_networks import PLANTS, SMOOTH_ACTIVATIONS, SMOOTH_LOSSES, effect, random_spec

from gradcheck_cli import InputError, Spec, Verdict, check
from gradcheck_cli.compare import ROUNDING_SAFETY
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.losses import LOSSES
from gradcheck_cli.model.network import gradients
from gradcheck_cli.model.problem import build_problem
from gradcheck_cli.model.rounding import Arithmetic, gradient_rounding

VISIBLE = 1e-5
"""A mistake that changes no tensor by more than this, relative to its largest entry, is not counted.

Nor is one that rounding hides: if a right gradient in float64 may be as far off, no check may blame it.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(np.random.default_rng().integers(2**31)))
    parser.add_argument("--kinks", action="store_true", help="also activations and losses with kinks")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    options = parser.parse_args()
    print(f"{options.networks} networks from seed {options.seed}, {options.dtype}")
    activations = tuple(ACTIVATIONS) if options.kinks else SMOOTH_ACTIVATIONS
    losses = tuple(LOSSES) if options.kinks else SMOOTH_LOSSES
    networks, entries, mistakes = Counter(), Counter(), Counter()
    for seed in range(options.seed, options.seed + options.networks):
        raw = random_spec(seed, activations, losses, options.dtype)
        try:
            report = check(Spec.model_validate(raw))
        except InputError:
            networks["no finite loss"] += 1
            continue
        networks[report.verdict.value] += 1
        for count in ("entries", "agree", "wrong", "unresolved", "zero"):
            entries[count] += getattr(report, count)
        if report.wrong:
            print(f"  seed {seed}: {report.worst(1)} of {report.network}")
        mistakes += plant(raw)
    print("right gradients, networks:", dict(networks))
    print("right gradients, entries: ", dict(entries))
    print("planted mistakes:         ", dict(mistakes))
    return int(entries["wrong"] > 0 or mistakes["agrees"] > 0)


def plant(raw: dict[str, object]) -> Counter[str]:
    """The verdicts on each mistake that shows on this network."""
    verdicts: Counter[str] = Counter()
    spec = Spec.model_validate(raw)
    problem = build_problem(spec)
    at = (problem.network, problem.parameters, problem.x, problem.target)
    right, bounds = gradients(*at), gradient_rounding(*at, Arithmetic.of(np.dtype(np.float64)))
    rounding = {name: 2 * ROUNDING_SAFETY * bound for name, bound in bounds.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, mistake in PLANTS.items():
            wrong = mistake(problem, right)
            if not effect(wrong, right) > VISIBLE:
                verdicts["invisible"] += 1
                continue
            if all((np.abs(wrong[key] - right[key]) <= rounding[key]).all() for key in right):
                verdicts["hidden by rounding"] += 1
                continue
            file = Path(folder, "gradients.npz")
            np.savez(file, **wrong)
            report = check(Spec.model_validate({**raw, "gradients": {"file": file}}))
            verdicts[report.verdict.value] += 1
            if report.verdict is Verdict.AGREES:
                print(f"  '{name}' agrees on {report.network}, effect {effect(wrong, right):.1e}")
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
