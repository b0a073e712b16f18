"""Check code along random directions: a 784-50-10 torch module in float64 with N = 100, with `--fast`.

    python benchmarks/foreign.py [--seeds 100] [--clean 1000] [--seed 0]

Every seed gives another network, other data and other random directions. In each run with a mistake, one of
the 39,760 entries is wrong by 0.1 %. The benchmark prints the seconds of one check of a right gradient (with
torch already imported), the share of runs in which exactly the wrong entry is called wrong, and the number of
right gradients that are called wrong or left undecided.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from gradcheck_cli import Report, Verdict, check, load_spec

NET = """
import torch
from torch import nn

torch.manual_seed({seed})
PLANTED = {planted}


def data():
    return torch.rand(100, 784, dtype=torch.float64) * 2 - 1, torch.randint(0, 10, (100,))


def loss(output, y):
    target = nn.functional.one_hot(y, 10).to(output.dtype)
    return ((torch.sigmoid(output) - target) ** 2).sum(dim=1) / len(y)


def build():
    net = nn.Sequential(nn.Linear(784, 50), nn.Sigmoid(), nn.Linear(50, 10)).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    if PLANTED:
        name, index = PLANTED

        def off(gradient):
            gradient = gradient.clone()
            gradient.view(-1)[index] *= 1.001
            return gradient

        net.get_parameter(name).register_hook(off)
    return net, loss
"""
SIZES = {"0.weight": 50 * 784, "0.bias": 50, "2.weight": 10 * 50, "2.bias": 10}


def run(folder: Path, seed: int, planted: tuple[str, int] | None = None) -> tuple[Report, float]:
    """Run the check, and return the report and the seconds it took."""
    (folder / "net.py").write_text(NET.format(seed=seed, planted=planted))
    (folder / "net.yaml").write_text(
        f"gradients: {{torch: net.py:build}}\ncheck: {{fast: true, seed: {seed}}}\n"
    )
    spec = load_spec(folder / "net.yaml")
    start = perf_counter()
    return check(spec), perf_counter() - start


def draw(seed: int) -> tuple[str, int]:
    """Draw a tensor's name and a flat index, with every entry of the network equally likely."""
    which = int(np.random.default_rng(seed).integers(sum(SIZES.values())))
    for name, size in SIZES.items():
        if which < size:
            return name, which
        which -= size
    raise AssertionError


def found(report: Report, planted: tuple[str, int]) -> bool:
    """Return whether exactly this entry is called wrong."""
    wrong = [(c.name, int(i)) for c in report.comparisons for i in np.flatnonzero(c.wrong | c.suspect)]
    return wrong == [planted]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--clean", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder, first = Path(name), given.seed
        run(folder, first)
        runs = [run(folder, first + i) for i in range(given.clean)]
        seconds = [each for _, each in runs]
        flagged = sum(report.verdict is Verdict.WRONG for report, _ in runs)
        undecided = sum(report.verdict is Verdict.UNRESOLVED for report, _ in runs)
        print(f"seeds from {first}; a clean check: {median(seconds):.2f} s, at most {max(seconds):.2f} s")
        print(f"{given.clean} clean runs: {flagged} flagged, {undecided} undecided", flush=True)
        planted = [(seed, draw(seed)) for seed in range(first, first + given.seeds)]
        runs = [run(folder, seed, entry) for seed, entry in planted]
        hits = [found(report, entry) for (report, _), (_, entry) in zip(runs, planted, strict=True)]
        missed = [seed for (seed, _), hit in zip(planted, hits, strict=True) if not hit]
        named = f"named exactly in {sum(hits)} of {given.seeds}, missed: {missed or 'none'}"
        print(f"one entry off by 0.1 %: {named}")
        print(f"such a check: {median(seconds for _, seconds in runs):.2f} s")


if __name__ == "__main__":
    main()
