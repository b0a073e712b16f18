"""Plant slips in layers by hand, and count how many `check_layer` names from forward and backward alone.

    python benchmarks/layer_slips.py [--seed S] [--only LAYER] [--others N]

`--others` also plants N random changes of the backward passes, and lists every name that comes out.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import textwrap
from collections.abc import Callable

import numpy as np
from slips import layers
from slips.mutants import mutants
from slips.slips import SLIPS, inputs_of

from gradcheck_cli import Report, check_layer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SLIPS))
    parser.add_argument("--others", type=int, default=0)
    args = parser.parse_args()
    names = [args.only] if args.only else list(SLIPS)
    if args.others:
        _count_others(names, args.seed, args.others)
    else:
        _count_slips(names, args.seed)


def _count_slips(names: list[str], seed: int) -> None:
    wrong = named = total = 0
    for name in names:
        for slip, right, instead in SLIPS[name]:
            source = source_of(name)
            assert right in source, (name, slip)
            report = checked(name, source.replace(right, instead), seed)
            said = said_by(report)
            total, wrong, named = total + 1, wrong + (report.verdict == "wrong"), named + bool(said)
            print(f"{name:13} {slip:34} {report.verdict}  {' / '.join(said) or '-'}")
    print(f"{total} slips, {wrong} wrong, {named} named")


def _count_others(names: list[str], seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    trees = {name: list(mutants(source_of(name))) for name in names}
    wrong = named = 0
    for _ in range(count):
        name = names[rng.integers(len(names))]
        what, source = trees[name][rng.integers(len(trees[name]))]
        try:
            report = checked(name, source, seed)
        except Exception:  # a random change may fail in any way
            continue
        if report.verdict == "wrong":
            said = said_by(report)
            wrong, named = wrong + 1, named + bool(said)
            print(f"{name:13} {what:50} {' / '.join(said) or '-'}", flush=True)
    print(f"{wrong} wrong, {named} named")


def said_by(report: Report) -> list[str]:
    """Return what a report names as the cause: facts of further runs, or the likeliest answer."""
    found = report.diagnosis
    if found is None:
        return []
    answer = found.answers[0].causes if found.answers else ()
    return [*found.trials, *(f"[{cause.kind}] {cause.sentence}" for cause in answer)]


def source_of(name: str) -> str:
    return textwrap.dedent(inspect.getsource(getattr(layers, f"{name}_backward")))


def checked(name: str, source: str, seed: int) -> Report:
    forward = getattr(layers, f"{name}_forward")
    from gradcheck_cli import WrongGradientError

    try:
        return check_layer(forward, _compiled(source), inputs_of(seed)[name], allow_undecided=True)
    except WrongGradientError as error:
        return error.report


def _compiled(source: str) -> Callable[..., object]:
    scope = dict(vars(layers))
    exec(source, scope)
    return scope[next(node.name for node in ast.parse(source).body)]


if __name__ == "__main__":
    main()
