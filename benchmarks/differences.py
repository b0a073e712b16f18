"""Compare unit and literal differences on every entry of every example spec.

python benchmarks/differences.py [SPEC ...]

The two kinds of differences must agree within their error bars. The benchmark takes about a minute, because
literal differences perturb every entry by every step of the adaptive scheme.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from gradcheck_cli import load_spec
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import build_problem

CONFIGS = Path(__file__).parent.parent / "configs"


def whole_ladder(reference: Reference, names: tuple[str, ...]) -> tuple[Estimates, float]:
    """Estimate every entry with every step, and also return the seconds that this took."""
    start = perf_counter()
    estimates = reference.estimate(names)
    estimates = reference.refine(estimates, {n: np.full(e.value.shape, True) for n, e in estimates.items()})
    return estimates, perf_counter() - start


def main() -> int:
    failed = 0
    for path in map(Path, sys.argv[1:] or sorted(CONFIGS.glob("*.yaml"))):
        problem = build_problem(load_spec(path))
        units, fast = whole_ladder(UnitDifferences(problem.objective, SCHEMES["adaptive"]), problem.checked)
        literal, slow = whole_ladder(
            LiteralDifferences(problem.objective, SCHEMES["adaptive"]), problem.checked
        )
        entries = known = beyond = 0
        largest = 0.0
        for name in problem.checked:
            both = np.isfinite(units[name].error) & np.isfinite(literal[name].error)
            gap = np.abs(units[name].value - literal[name].value)[both]
            allowed = 3 * (units[name].error + literal[name].error)[both]
            share = np.where(gap > 0, gap / np.where(allowed > 0, allowed, np.inf), 0.0)
            entries += both.size
            known += np.count_nonzero(both)
            beyond += np.count_nonzero(gap > allowed)
            largest = max(largest, share.max(initial=0.0))
        failed += beyond
        print(
            f"{path.name:28} {entries:6} entries, {known:6} known to both, {beyond} apart, at most "
            f"{largest:.2f} of 3 error bars; literal {slow:.2f} s, units {fast:.3f} s"
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
