"""Compare gradcheck's speed with that of other tools in one run; only the ratios mean anything.

    python benchmarks/speed.py [--parts PART ...] [--networks 'PATTERN' ...] [--quick] [--patience SECONDS]

networks  for each of seven networks, the seconds of the default verdict (every entry with its error bar, and
          the witness), of plain central differences by units and literally, of the verdict on a gradient that
          is wrong in every entry, and of common alternatives: numpy one by one, torch's gradcheck, scipy's
          approx_derivative, jax's jit and vmap. Then come the entries per second, the time of plain central
          differences by units relative to its floor (defined in floor.py), and the peak memory of `gradcheck
          check` in its own process, compared with a process that imports only numpy and one that imports
          gradcheck_cli's `check`. The last table is Markdown.
layers    processor seconds of the default verdict on a LeNet, two convolutions, an LSTM and a transformer
          block, compared with numpy one by one and torch's gradcheck in its slow mode.
growth    seconds of the default verdict against width, samples, depth and outputs.
process   the time of the whole command on 784-50-10 and on the smallest example.

The rows for torch, jax and scipy need these packages; rows without their package are left out. Everything
except `--jobs 2` runs on one thread, unless OPENBLAS_NUM_THREADS or a similar variable says otherwise. Any
method that would take longer than the patience is extrapolated from a random sample of the entries (for
torch, from the biases) and marked with "~". Times of short methods are medians over rounds in which all
methods take turns. `--quick` leaves out methods that perturb entries one by one. With the default patience,
the benchmark takes about a quarter of an hour. `--networks` chooses networks and layers by name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ.update(  # before any library loads, and without overriding variables that are already set
    {
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "NPROC": "1",  # the thread pool of jax
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        **os.environ,
    }
)

import layer_speed
import numpy as np
import peers
from floor import Rates, measured_rates, work
from ours import plain_by_units, plain_literally, with_jobs, with_wrong_gradient
from timing import Run, Timing, Way, duration, side_by_side

from gradcheck_cli import Spec, check, load_spec
from gradcheck_cli.problem.problem import Problem, build_problem

CONFIGS = Path(__file__).parent.parent / "configs"
Raw = dict[str, Any]

DEFAULT, PLAIN = "default verdict", "plain central by units"
PROCESS_RUNS = 11
MIB = 2**20


def described(
    inputs: int, layers: Sequence[tuple[int, str]], loss: str, samples: int, init: str = "xavier"
) -> Raw:
    """Return the spec of a network with normally distributed inputs."""
    return {
        "network": {
            "inputs": inputs,
            "layers": [{"units": units, "activation": activation} for units, activation in layers],
            "loss": loss,
        },
        "parameters": {"init": init, "seed": 1},
        "data": {"synthetic": "normal", "samples": samples, "seed": 2},
    }


def classifier(hidden: Sequence[int], samples: int, inputs: int = 64, outputs: int = 10) -> Raw:
    """Return a spec with tanh layers and cross-entropy."""
    layers = [*((units, "tanh") for units in hidden), (outputs, "identity")]
    return described(inputs, layers, "cross_entropy", samples)


NETWORKS: Mapping[str, Raw | Path] = {
    "4-8-3": described(4, [(8, "sigmoid"), (3, "sigmoid")], "mse", 16),
    "64-32-10": described(64, [(32, "sigmoid"), (10, "sigmoid")], "mse", 64),
    "64-50-10 digits": CONFIGS / "digits_mlp.yaml",
    "784-50-10": CONFIGS / "raschka_mnist.yaml",
    "256-256-256-10": classifier([256, 256], 64, inputs=256),
    "784-512-512-10": described(
        784, [(512, "relu"), (512, "relu"), (10, "identity")], "cross_entropy", 128, init="he"
    ),
    "64-64×6-10": classifier([64] * 6, 32),
}

GROWTH: Mapping[str, Mapping[int, Raw]] = {
    "width": {width: classifier([width, width], 32) for width in (32, 64, 128, 256)},
    "samples": {samples: classifier([64, 64], samples) for samples in (16, 64, 256, 1024)},
    "hidden layers": {depth: classifier([64] * depth, 32) for depth in (1, 2, 4, 8)},
    "outputs": {outputs: classifier([64, 64], 32, outputs=outputs) for outputs in (2, 8, 32, 128)},
}


# --- one network -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The measurements of one network.

    timings: the timing of each method, by name.
    floor: the seconds of `floor.work`.
    verdicts: the verdicts of gradcheck's methods.
    peak: the peak memory of ``gradcheck check`` in MiB.
    """

    name: str
    entries: int
    timings: Mapping[str, Timing]
    floor: float
    verdicts: Mapping[str, str]
    peak: float

    def ratio(self, way: str, base: str = DEFAULT) -> str:
        """Return a method's time as a multiple of the time of the base method."""
        timing = self.timings.get(way)
        if timing is None:
            return "—"
        return f"{'~' if timing.extrapolated else ''}{plainly(timing.seconds / self.timings[base].seconds)}"


def size(problem: Problem) -> int:
    """Return the number of entries of all parameters."""
    return sum(value.size for value in problem.parameters.values())


def plainly(number: float) -> str:
    """Format a number with two or three digits and no exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}" if number >= 10 else f"{number:.2g}"


def measured(name: str, raw: Raw | Path, options: argparse.Namespace, rates: Rates) -> Measured:
    verdicts: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        spec = Spec.model_validate(raw) if isinstance(raw, dict) else load_spec(raw)
        problem = build_problem(spec)
        ways = [
            *our_ways(spec, problem, Path(folder), verdicts, options),
            *their_ways(problem, spec, options),
        ]
        timings = side_by_side(ways, options.patience)
        path = raw
        if isinstance(raw, dict):
            path = Path(folder, "net.yaml")
            path.write_text(json.dumps(raw), encoding="utf-8")
        peak = peak_memory("-m", "gradcheck_cli", "check", str(path))
    return Measured(name, size(problem), timings, work(problem).seconds(rates), verdicts, peak)


def our_ways(
    spec: Spec, problem: Problem, folder: Path, verdicts: dict[str, str], options: argparse.Namespace
) -> Iterator[Way]:
    entries = size(problem)

    def verdict(way: str, spec: Spec) -> Way:
        def run(_: int) -> None:
            verdicts[way] = check(spec).verdict.value

        return Way(way, run, entries)

    yield verdict(DEFAULT, spec)
    yield Way(PLAIN, lambda _: plain_by_units(problem), entries)
    yield verdict("default, --jobs 2", with_jobs(spec, 2))
    wrong = with_wrong_gradient(spec, problem, folder / "wrong.npz")
    yield verdict("every entry × 1.1", wrong)
    if not options.quick:
        names = list(problem.network.shapes)
        run = of_sample(lambda which: plain_literally(problem, names, which), entries, options.seed)
        yield Way("plain central, literal", run, entries, most=entries, chunk=64)


def their_ways(problem: Problem, spec: Spec, options: argparse.Namespace) -> Iterator[Way]:
    assert spec.network is not None
    net = peers.dense(problem, spec.network.loss.name)

    def sampled(name: str, differences: peers.Entries, chunk: int = 16) -> Way:
        run = of_sample(differences, net.entries, options.seed)
        return Way(name, run, net.entries, most=net.entries, chunk=chunk)

    torch_on_one_thread(options.seed)
    if find_spec("torch"):
        yield Way("torch gradcheck, fast", peers.torch_gradcheck(net, fast=True, tolerance=1e3), net.entries)
        if not options.quick:
            slow = peers.torch_gradcheck(net, fast=False, tolerance=1e3)
            yield Way("torch gradcheck, slow", slow, net.entries, most=net.biases)
    if options.quick:
        return
    yield sampled("numpy, one by one", peers.numpy_one_by_one(net))
    if find_spec("scipy"):
        for method in ("2-point", "3-point"):
            yield sampled(f"scipy, {method}", peers.scipy_differences(net, method))
    if find_spec("jax"):
        yield sampled("jax, jit and vmap", peers.jax_vmap(net), chunk=peers.jax_batch(net))


def of_sample(differences: peers.Entries, entries: int, seed: int) -> Run:
    """Compute this many random entries, or all entries in order."""
    drawn = np.random.default_rng(seed).permutation(entries)
    return lambda n: differences(np.arange(entries) if n == entries else drawn[:n])


def torch_on_one_thread(seed: int) -> None:
    if not find_spec("torch"):
        return
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(seed)


# --- processes ---------------------------------------------------------------------------------------------

_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""The code of a small process in between, because Linux counts a child as at least as large as its parent."""


def peak_memory(*arguments: str) -> float:
    """Return the peak memory of a Python process in MiB. Raises `RuntimeError` if it fails."""
    command = [sys.executable, "-S", "-c", _LAUNCHER, sys.executable, *arguments]
    code, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if code != "0":
        raise RuntimeError(f"{' '.join(arguments)} ended with {code}")
    return int(peak) / (MIB if sys.platform == "darwin" else 1024)


def processes() -> tuple[float, float]:
    """Time the whole command on 784-50-10 and on the smallest spec, in turn."""
    specs = [CONFIGS / "raschka_mnist.yaml", CONFIGS / "output_layer.yaml"]
    times: dict[Path, list[float]] = {path: [] for path in specs}
    for run in range(PROCESS_RUNS + 1):
        for path in specs:
            start = perf_counter()
            subprocess.run(
                [sys.executable, "-m", "gradcheck_cli", "check", str(path)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            if run:  # the first round warms the disk cache
                times[path].append(perf_counter() - start)
    large, small = (median(times[path]) for path in specs)
    return large, small


# --- tables ------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells in columns, the first flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(first: str, *others: str) -> str:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return "  ".join([first.ljust(widths[0]), *cells]).rstrip()

    return "\n".join(line(*row) for row in rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as a Markdown table."""
    head, *body = rows
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def of_one(m: Measured) -> str:
    """List every method for one network, relative to the default verdict and to plain central by units."""
    rows = [
        (way, str(timing), m.ratio(way), m.ratio(way, PLAIN), m.verdicts.get(way, ""))
        for way, timing in m.timings.items()
    ]
    return table([(f"{m.name}, {m.entries:,} entries", "time", "/ default", "/ plain", "verdict"), *rows])


def of_all(all_measured: Sequence[Measured]) -> list[list[str]]:
    """Return a table with networks as columns and methods as rows.

    The default verdict is in seconds, and the other methods are multiples of it."""
    ways = dict.fromkeys(way for m in all_measured for way in m.timings if way != DEFAULT)

    def row(head: str, cell: Callable[[Measured], str]) -> list[str]:
        return [head, *(cell(m) for m in all_measured)]

    return [
        row(f"{date.today()}, ratios", lambda m: m.name),
        row("entries", lambda m: f"{m.entries:,}"),
        row(f"**{DEFAULT}**", lambda m: str(m.timings[DEFAULT])),
        row("its entries per second", lambda m: f"{m.entries / m.timings[DEFAULT].seconds:,.0f}"),
        *(row(f"{way} / {DEFAULT}", lambda m, way=way: m.ratio(way)) for way in ways),
        row(f"{PLAIN} / its floor", lambda m: plainly(m.timings[PLAIN].seconds / m.floor)),
        row("peak memory, MiB", lambda m: f"{m.peak:.0f}"),
    ]


def of_growth(what: str, specs: Mapping[int, Raw], patience: float) -> str:
    """Return the default verdict's seconds for each spec, and as multiples of the first."""
    loaded = {value: Spec.model_validate(raw) for value, raw in specs.items()}
    entries = {value: size(build_problem(spec)) for value, spec in loaded.items()}
    ways = [
        Way(str(value), lambda _, spec=spec: check(spec), entries[value]) for value, spec in loaded.items()
    ]
    timings = side_by_side(ways, patience)
    seconds = {value: timings[str(value)].seconds for value in loaded}
    first = next(iter(loaded))
    rows = []
    for value in loaded:
        growth = (each[value] / each[first] for each in ({v: v for v in loaded}, entries, seconds))
        rows.append((str(value), f"{entries[value]:,}", duration(seconds[value]), *map(plainly, growth)))
    return table([(what, "entries", "time", f"× {what}", "× entries", "× time"), *rows])


def versions() -> str:
    found = [name for name in ("torch", "jax", "scipy") if find_spec(name)]
    numbers = [f"{name} {__import__(name).__version__}" for name in found]
    return ", ".join([f"Python {platform.python_version()}", f"numpy {np.__version__}", *numbers])


# --- the command -------------------------------------------------------------------------------------------


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("networks", "layers", "growth", "process")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--networks", nargs="+", default=["*"], help="names with wildcards")
    parser.add_argument("--quick", action="store_true", help="leave out what moves entries one by one")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds of a way before it is sampled")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    options = parsed()
    chosen, layers = matching(NETWORKS, options.networks), matching(layer_speed.LAYERS, options.networks)
    if not (chosen or layers):
        print(f"no such network; there is {', '.join([*NETWORKS, *layer_speed.LAYERS])}", file=sys.stderr)
        return 2
    print(versions())
    if "process" in options.parts:
        large, small = processes()
        print(
            f"\ngradcheck check 784-50-10 {duration(large)}, smallest spec {duration(small)}: "
            f"{large / small:.2f}"
        )
    if "growth" in options.parts:
        for what, specs in GROWTH.items():
            print(f"\n{of_growth(what, specs, options.patience)}", flush=True)
    if layers and "layers" in options.parts:
        torch_on_one_thread(options.seed)
        rows = list(layer_speed.rows(layers, options.seed, options.quick, options.patience))
        print(f"\n{markdown(rows)}", flush=True)
    if chosen and "networks" in options.parts:
        networks(chosen, options)
    return 0


def matching(named: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    return {name: each for name, each in named.items() if any(fnmatchcase(name, p) for p in patterns)}


def networks(chosen: Mapping[str, Raw | Path], options: argparse.Namespace) -> None:
    rates = measured_rates()
    print(f"\nrates of the floor: {rates}")
    results = []
    for name, raw in chosen.items():
        results.append(measured(name, raw, options, rates))
        print(f"\n{of_one(results[-1])}", flush=True)
    imports = {
        "numpy": peak_memory("-c", "import numpy"),
        "our check": peak_memory("-c", "from gradcheck_cli import check"),
    }
    floors = ", ".join(f"{what} {mib:.0f} MiB" for what, mib in imports.items())
    print(f"\n{markdown(of_all(results))}\n\nPeak memory of importing {floors}; {versions()}.")


if __name__ == "__main__":
    sys.exit(main())
