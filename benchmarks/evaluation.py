"""Time the default verdict: every entry with its error bar, and the witness (a few literal differences).

    python benchmarks/evaluation.py [--torch]

--torch also times torch.autograd.gradcheck (slow mode) on 784-50-10. It needs torch and takes half a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from gradcheck_cli import check, load_spec
from gradcheck_cli.problem.problem import build_problem

CONFIGS = Path(__file__).parent.parent / "configs"
RUNS = 9


def seconds(path: Path) -> tuple[float, int]:
    spec = load_spec(path)
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        report = check(spec)
        times.append(perf_counter() - start)
    return median(times), report.entries


def torch_slow(path: Path) -> float:
    """Run torch's slow gradcheck on the same loss and parameters."""
    import torch

    problem = build_problem(load_spec(path))
    x, y = torch.tensor(problem.x), torch.tensor(problem.target)
    names = ["hidden1.weight", "hidden1.bias", "output.weight", "output.bias"]
    parameters = [torch.tensor(problem.parameters[name], requires_grad=True) for name in names]

    def loss(w_h: torch.Tensor, b_h: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a_h = torch.sigmoid(x @ w_h.T + b_h)
        return ((torch.sigmoid(a_h @ w.T + b) - y) ** 2).sum() / len(x)

    start = perf_counter()
    torch.autograd.gradcheck(loss, parameters, fast_mode=False)
    return perf_counter() - start


def main() -> None:
    for path in sorted(CONFIGS.glob("*.yaml")):
        ours, entries = seconds(path)
        print(f"{path.name:30} {entries:6} entries: {ours:.4f} s, {entries / ours:,.0f} entries per second")
    if "--torch" in sys.argv[1:]:
        path = CONFIGS / "raschka_mnist.yaml"
        slow, (ours, _) = torch_slow(path), seconds(path)
        print(f"{path.name}: torch slow {slow:.1f} s, ours {ours:.4f} s, ratio {slow / ours:.0f}")


if __name__ == "__main__":
    main()
