"""Plant patterns in the gradients of functions, and count how often they are named, and how often falsely.

    python benchmarks/function_patterns.py [--only PATTERN]

Every pattern is planted in functions of numpy, pairs of forward and backward, torch and jax. Other mistakes
in the same functions must never get the name of a pattern.
"""

from __future__ import annotations

import argparse
from collections import Counter

from planted_patterns.case import named
from planted_patterns.plants import PLANTS, in_other_places, others


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=list(PLANTS))
    only = parser.parse_args().only
    print(f"{'pattern':30} planted  wrong  named")
    for kind in [only] if only else PLANTS:
        _count_planted(kind)
    if only is None:
        _count_others()


def _count_planted(kind: str) -> None:
    verdicts, found = Counter[str](), 0
    for case, change in PLANTS[kind]():
        report = case.run(change)
        verdicts[report.verdict] += 1
        found += named(report) == {kind}
        if named(report) != {kind}:
            print(f"  {case.name}: {report.verdict}, {sorted(named(report)) or 'unknown'}")
    print(f"{kind:30} {verdicts.total():7} {verdicts['wrong']:6} {found:6}")


def _count_others() -> None:
    total = false = 0
    for name, case, change in (*others(), *in_other_places()):
        report = case.run(change)
        total += report.verdict == "wrong"
        for kind in named(report) & set(PLANTS):
            false += 1
            print(f"  {name} in {case.name}: '{kind}'")
    print(f"{total} other mistakes, {false} of them with the name of a pattern")


if __name__ == "__main__":
    main()
