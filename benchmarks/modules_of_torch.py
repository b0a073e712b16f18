"""Check torch modules through the outputs of their parts: the price of every entry, and random modules.

    python benchmarks/modules_of_torch.py                   # 784-50-10, next to literal differences
    python benchmarks/modules_of_torch.py --networks 200    # random ones, each right and with a mistake
    python benchmarks/modules_of_torch.py --kinds           # recurrent layers, attention and others

A right module must never be called wrong, and no part of it may be named. Every mistake must be called wrong.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.function import Function
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_modules import Modules
from gradcheck_cli.directions.projections import EVALUATIONS
from gradcheck_cli.subject.code import code_subject, read_function

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed({seed})


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dx, dw = g @ w, g.flatten(0, -2).t() @ x.flatten(0, -2)
        {mistake}
        return dx, dw


class Own(nn.Linear):
    def forward(self, x):
        return Product.apply(x, self.weight) + self.bias


class Recurrent(nn.Module):
    def __init__(self, kind, width):
        super().__init__()
        self.cell = kind(width, width, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        h = self.norm(x)
        return x + self.inner(h, h, h, need_weights=False)[0]


class OwnAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return x + self.out((q @ k.transpose(-1, -2) / 4.0).softmax(-1) @ v)


class Residual(nn.Module):
    def __init__(self, *inner):
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x):
        return x + self.inner(x)


class Twice(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(torch.tanh(self.inner(x)))


class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)

    def forward(self, x):
        return F.linear(torch.tanh(self.first(x)), self.first.weight)


class OverTime(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class Looked(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.table = nn.Embedding(30, width)

    def forward(self, x):
        return x + self.table((10 * x[..., 0]).long().remainder(30))


def loss(output, y):
    terms = (output - y).square().flatten(1).mean(1) / len(y)
    return {loss}


def data():
    generator = torch.Generator().manual_seed({seed})
    return [torch.randn({samples}, {tokens}, {width}, generator=generator) for _ in range(2)]


def build():
    torch.manual_seed({seed})
    net = nn.Sequential({parts})
    return net.{mode}().{dtype}(), loss
"""

PARTS = (
    "nn.Linear({w}, {w})",
    "nn.Sequential(nn.Linear({w}, {v}), {act}, nn.Linear({v}, {w}))",
    "Residual(nn.LayerNorm({w}), nn.Linear({w}, {v}), {act}, nn.Linear({v}, {w}))",
    "Residual(nn.RMSNorm({w}), Own({w}, {v}), {act}, nn.Linear({v}, {w}))",
    "Own({w}, {w})",
    "{act}",
    "nn.LayerNorm({w})",
    "OverTime(nn.BatchNorm1d({w}))",
    "OverTime(nn.GroupNorm(2, {w}))",
    "OverTime(nn.Conv1d({w}, {w}, 3, padding=1))",
    "OverTime(nn.Conv1d({w}, {w}, 3, padding=2, dilation=2, groups=2, padding_mode='circular'))",
    "OverTime(nn.ConvTranspose1d({w}, {w}, 3, padding=1))",
    "Recurrent(nn.LSTM, {w})",
    "Recurrent(nn.GRU, {w})",
    "Attention({w})",
    "OwnAttention({w})",
    "Twice(nn.Linear({w}, {w}))",
    "Tied({w})",
    "Looked({w})",
    "nn.utils.parametrizations.weight_norm(nn.Linear({w}, {w}))",
    "nn.PReLU()",
)

ACTIVATIONS = (
    "nn.ReLU()",
    "nn.ReLU(inplace=True)",
    "nn.Tanh()",
    "nn.GELU()",
    "nn.SiLU()",
    "nn.LeakyReLU(0.1)",
)

MISTAKES = (
    "dw = 1.001 * dw",
    "dw[1, 2] *= 1.01",
    "dw[1, 2] = -dw[1, 2]",
    "dw[3] = 0.0",
    "dw = dw.roll(1, 0)",
    "dx = 0.99 * dx",
    "dx = dx * 0.0",
)


def drawn(seed: int, mistake: str) -> str:
    """Return the source of a random module; with a mistake, in a layer with a parameter below it."""
    rng = np.random.default_rng(seed)
    width, wider = int(rng.choice([8, 12, 16])), int(rng.choice([16, 24]))

    def part(source: str) -> str:
        return source.format(w=width, v=wider, act=rng.choice(ACTIVATIONS))

    parts = [part("nn.Linear({w}, {w})")]
    parts += [part(str(rng.choice(PARTS))) for _ in range(int(rng.integers(2, 5)))]
    if mistake:
        parts += [part("nn.Linear({w}, {w})"), "nn.Tanh()", part("Own({w}, {w})")]
    else:
        parts.append(part("nn.Linear({w}, {w})"))
    return HEAD.format(
        seed=seed,
        mistake=mistake or "pass",
        loss=rng.choice(["terms", "terms", "terms.sum()"]),
        samples=rng.integers(2, 5),
        tokens=rng.integers(2, 4),
        width=width,
        parts=", ".join(parts),
        mode=rng.choice(["train", "eval"]),
        dtype=rng.choice(["double", "float"]),
    )


def judge_random_modules(first: int, count: int) -> None:
    tally: Counter[str] = Counter()
    for seed in range(first, first + count):
        for mistake in ("", MISTAKES[seed % len(MISTAKES)]):
            with tempfile.TemporaryDirectory() as folder:
                tally.update(judged(Path(folder), seed, mistake))
    for what, times in sorted(tally.items()):
        print(f"{times:6d}  {what}")


def judged(folder: Path, seed: int, mistake: str) -> list[str]:
    """Return what happened to one random module, in a few words each."""
    (folder / "net.py").write_text(drawn(seed, mistake))
    (folder / "net.yaml").write_text("gradients: {torch: net.py:build}\n")
    spec = load_spec(folder / "net.yaml")
    report = check(spec)
    kind = "planted" if mistake else "right"
    if (report.verdict is Verdict.WRONG) != bool(mistake):
        print(
            f"seed {seed}, {mistake or 'right'}: {report.verdict}",
            [(c.name, str(c.verdict)) for c in report.comparisons],
        )
    said = [f"{kind}: {report.verdict}", f"{kind}: {report.differences}"]
    if not mistake:
        function, _ = read_function(spec, spec.gradients)
        modules = Modules(function.graph, function.graph.forward, function.parameters, function.upstream)
        named = list(modules.faults(()))
        said.append(f"right: {len(named)} modules named")
        if named:
            print(f"seed {seed}: {named}")
    return said


BOOK = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 50), nn.Sigmoid(), nn.Linear(50, 10))
    return net.double(), lambda out, y: nn.functional.cross_entropy(out, y, reduction="none") / len(y)


def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(100, 784, generator=generator), torch.randint(0, 10, (100,), generator=generator)
"""


class Counted:
    """Counts the calls of the module in float64, and its forward passes.

    One call under vmap makes one forward pass for each of its copies.
    """

    def __init__(self) -> None:
        self.runs, self.copies = 0, 0
        run_at, losses_of_copies = Graph.run_at, Graph.losses_of_copies

        def counting(graph: Graph, *arguments: Any) -> Any:
            self.runs += 1
            return run_at(graph, *arguments)

        def counting_copies(graph: Graph, point: Any, weights: Any, changes: Any, *rest: Any) -> Any:
            self.copies += len(changes) - 1  # the call itself counts as one pass
            return losses_of_copies(graph, point, weights, changes, *rest)

        Graph.run_at, Graph.losses_of_copies = counting, counting_copies

    @property
    def passes(self) -> int:
        """The number of forward passes."""
        return self.runs + self.copies


def price_of_every_entry() -> None:
    """Print what every entry of 784-50-10 costs, and what literal differences would cost."""
    counted = Counted()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "book.py").write_text(BOOK)
        (Path(folder) / "book.yaml").write_text("gradients: {torch: book.py:build}\n")
        spec = load_spec(Path(folder) / "book.yaml")
        check(spec)  # loads what is loaded late
        counted.runs, counted.copies, start = 0, 0, time.process_time()
        subject = code_subject(spec, spec.gradients, None)
        report = subject.check(spec.check)
        units, calls, passes = time.process_time() - start, counted.runs, counted.passes
        literal = literal_seconds(subject.objective, report.entries)
    entries = EVALUATIONS * report.entries
    print(f"{report.verdict}, {report.agree:,} of {report.entries:,} entries, {report.differences}")
    print(f"calls of the module: {calls:,} by units, {entries:,} literally, 1 / {entries / calls:.0f}")
    print(f"forward passes: {passes:,} by units, {entries:,} literally, 1 / {entries / passes:.0f}")
    print(f"processor time: {units:.2f} s by units, {literal:.0f} s literally, 1 / {literal / units:.0f}")


KINDS = {
    "nn.LSTM": "Recurrent(nn.LSTM, 24)",
    "nn.LSTM, 2 layers": "Recurrent(nn.LSTM, 24), Recurrent(nn.LSTM, 24)",
    "nn.GRU": "Recurrent(nn.GRU, 24)",
    "nn.RNN": "Recurrent(nn.RNN, 24)",
    "nn.MultiheadAttention": "Attention(24)",
    "nn.TransformerEncoderLayer": "nn.TransformerEncoderLayer(24, 2, 32, 0.0, batch_first=True)",
    "nn.ConvTranspose1d": "OverTime(nn.ConvTranspose1d(24, 24, 3, padding=1))",
    "weight_norm": "nn.utils.parametrizations.weight_norm(nn.Linear(24, 24))",
}


def price_of_kinds() -> None:
    """Print how many evaluations every entry of some modules takes, and how many it would take literally."""
    print(f"{'module':<28} {'entries':>8} {'literal':>8} {'now':>8}  ratio")
    for name, parts in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            fill = {"samples": 4, "tokens": 4, "width": 24, "mode": "train", "dtype": "double"}
            source = HEAD.format(seed=0, mistake="pass", loss="terms", parts=parts, **fill)
            (Path(folder) / "net.py").write_text(source)
            (Path(folder) / "net.yaml").write_text("gradients: {torch: net.py:build}\n")
            spec = load_spec(Path(folder) / "net.yaml")
            function, _ = read_function(spec, spec.gradients)
            entries, now = evaluations(function)
        literal = EVALUATIONS * entries
        print(f"{name:<28} {entries:>8,} {literal:>8,} {now:>8,}  1 / {literal / now:.1f}")


def evaluations(function: Function) -> tuple[int, int]:
    """Return the number of entries of a function, and of the evaluations that all of them take."""
    counted = Counted()
    sites = function.sites(list(function.parameters))
    used = {use.site for uses in sites.uses.values() for use in uses}
    numbers = sum(len(sites.values(site)) for site in used)
    sizes = {name: array.size for name, array in function.parameters.items()}
    left = sum(size for name, size in sizes.items() if name not in sites.uses)
    return sum(sizes.values()), counted.passes + EVALUATIONS * (numbers + left)


def literal_seconds(objective: object, entries: int, some: int = 200) -> float:
    """Return the processor seconds that literal differences of all entries would take."""
    start = time.process_time()
    moves = objective.entries("0.weight")
    which = np.arange(some)
    for _ in range(EVALUATIONS):
        moves.move(which, moves.position[which])
    return (time.process_time() - start) * entries / some


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--networks", type=int, default=0, help="random modules, each right and with a mistake"
    )
    parser.add_argument("--kinds", action="store_true", help="recurrent layers, attention and others")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if asked.networks:
        judge_random_modules(asked.seed, asked.networks)
    elif asked.kinds:
        price_of_kinds()
    else:
        price_of_every_entry()


if __name__ == "__main__":
    main()
