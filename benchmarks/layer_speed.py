"""Compare the default verdict with torch and numpy on convolutions, an LSTM and a transformer block.

Each network reads real digits: as images of 8 × 8 pixels, or as 8 rows of 8 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from peers import STEP
from timing import Run, Timing, Way, side_by_side

from gradcheck_cli import Spec, check
from gradcheck_cli.network.graph import run
from gradcheck_cli.network.network import sample_losses
from gradcheck_cli.problem.problem import Problem, build_problem

Array = np.ndarray
Raw = dict[str, Any]
Tensors = Mapping[str, Any]

DATA = Path(__file__).parent.parent / "configs" / "data" / "digits.npz"
DEFAULT = "default verdict"


def _digits(inputs: list[int], samples: int, *layers: Any) -> Raw:
    return {
        "network": {"inputs": inputs, "layers": list(layers), "loss": "cross_entropy"},
        "parameters": {"init": "xavier", "seed": 1},
        "data": {"file": str(DATA), "batch": samples, "rescale": {"from": [0, 16], "to": [-1, 1]}},
    }


def _conv(channels: int) -> Raw:
    return {"conv2d": channels, "kernel": 3, "padding": 1, "activation": "tanh"}


def lenet(first: int = 8, second: int = 16, samples: int = 20) -> Raw:
    pool = {"avg_pool2d": 2}
    return _digits([1, 8, 8], samples, _conv(first), pool, _conv(second), pool, "flatten", {"units": 10})


def convolutions(channels: int = 32, samples: int = 4) -> Raw:
    layers = (_conv(channels), _conv(channels), {"avg_pool2d": 2}, "flatten", {"units": 10})
    return _digits([1, 8, 8], samples, *layers)


def lstm(units: int = 64, samples: int = 20) -> Raw:
    return _digits([8, 8], samples, {"lstm": units}, {"select": -1}, {"units": 10})


def block(width: int = 32, heads: int = 4, samples: int = 20) -> Raw:
    attention = {"residual": ["layer_norm", {"attention": heads}]}
    mlp = {"residual": ["layer_norm", {"units": 4 * width, "activation": "gelu"}, {"units": width}]}
    mean = {"mean": True, "dim": 0}
    return _digits([8, 8], samples, {"units": width}, attention, mlp, mean, {"units": 10})


LAYERS: Mapping[str, Callable[[], Raw]] = {
    "LeNet": lenet,
    "conv 32 → 32": convolutions,
    "LSTM 8 → 64": lstm,
    "transformer block": block,
}


def ways(spec: Spec, problem: Problem, seed: int, quick: bool) -> Iterator[Way]:
    """Yield the methods: the default verdict, and every entry one by one in numpy and in torch."""
    entries = _entries(problem)
    yield Way(DEFAULT, lambda _: check(spec), entries)
    if quick:
        return
    drawn = np.random.default_rng(seed).permutation(entries)
    yield Way("numpy, one by one", lambda n: numpy_one_by_one(problem, drawn[:n]), entries, most=entries)
    if find_spec("torch"):
        yield Way("torch gradcheck, slow", lambda _: torch_slow(problem), entries)


def rows(
    networks: Mapping[str, Callable[[], Raw]], seed: int, quick: bool, patience: float
) -> Iterator[list[str]]:
    """Yield a table's rows: per network, the time of the default verdict, and the others as multiples."""
    heads = ["numpy, one by one", "torch gradcheck, slow"]
    yield [f"{date.today()}, ratios", "entries", DEFAULT, *heads]
    for name, raw in networks.items():
        spec = Spec.model_validate(raw())
        each = list(ways(spec, build_problem(spec), seed, quick))
        found = side_by_side(each, patience, processor_seconds)
        base = found[DEFAULT]
        cells = [_ratio(found[head], base) if head in found else "—" for head in heads]
        yield [name, f"{_entries(build_problem(spec)):,}", str(base), *cells]


def processor_seconds(run_: Run, entries: int) -> float:
    """Return processor seconds, which other programs hardly change. All methods here use one thread."""
    start = process_time()
    run_(entries)
    return process_time() - start


def _ratio(timing: Timing, base: Timing) -> str:
    return f"{'~' if timing.extrapolated else ''}{timing.seconds / base.seconds:.2g}"


def _entries(problem: Problem) -> int:
    return sum(value.size for value in problem.parameters.values())


def numpy_one_by_one(problem: Problem, which: Array) -> Array:
    """Return the derivatives of these entries, with two full forward passes for every entry.

    which: flat indices into all parameters, one tensor after the other.
    """
    parameters = {name: value.copy() for name, value in problem.parameters.items()}
    ends = np.cumsum([value.size for value in parameters.values()])
    names = list(parameters)

    def loss() -> float:
        output = run(problem.network.graph, parameters, problem.x)[-1]
        return float(sample_losses(problem.network, output, problem.target).sum())

    slopes = np.empty(len(which))
    for n, i in enumerate(which):
        k = int(np.searchsorted(ends, i, side="right"))
        entry, flat = int(i - ends[k]), parameters[names[k]].reshape(-1)
        rest = flat[entry]
        flat[entry] = rest + STEP
        above = loss()
        flat[entry] = rest - STEP
        slopes[n] = (above - loss()) / (2.0 * STEP)
        flat[entry] = rest
    return slopes


# --- torch -------------------------------------------------------------------------------------------------


def torch_slow(problem: Problem) -> bool:
    """Check every entry with torch's slow gradcheck."""
    import torch

    loss, names = torch_loss(problem), list(problem.parameters)
    tensors = [torch.tensor(value, requires_grad=True) for value in problem.parameters.values()]
    return torch.autograd.gradcheck(
        lambda *each: loss(dict(zip(names, each, strict=True))), tensors, fast_mode=False
    )


def torch_loss(problem: Problem) -> Callable[[Tensors], Any]:
    """Return the loss of the same network in torch, as a function of its parameters by name."""
    import torch

    x, labels = torch.tensor(problem.x), torch.tensor(problem.target.argmax(axis=1))
    forward = partial(_FORWARD[_kind(problem)], width=problem.parameters["output.weight"].shape[1])
    return lambda p: torch.nn.functional.cross_entropy(forward(p, x), labels)


def _kind(problem: Problem) -> str:
    found = [kind for kind in ("lstm", "attention") if any(n.startswith(kind) for n in problem.parameters)]
    return found[0] if found else "conv"


def _torch_conv(p: Tensors, x: Any, width: int) -> Any:
    """Run convolutions; pool after the second, and after the first if the output layer requires it."""
    from torch.nn import functional

    a = functional.conv2d(x, p["hidden1.weight"], p["hidden1.bias"], padding=1).tanh()
    if p["hidden2.weight"].shape[0] * 16 > width:
        a = functional.avg_pool2d(a, 2)
    a = functional.conv2d(a, p["hidden2.weight"], p["hidden2.bias"], padding=1).tanh()
    a = functional.avg_pool2d(a, 2).flatten(1)
    return functional.linear(a, p["output.weight"], p["output.bias"])


def _within(p: Tensors, layer: str) -> dict[str, Any]:
    """Return a layer's parameters by their names in torch's module."""
    return {
        name.removeprefix(f"{layer}."): value for name, value in p.items() if name.startswith(f"{layer}.")
    }


def _torch_lstm(p: Tensors, x: Any, width: int) -> Any:
    import torch

    module = torch.nn.LSTM(x.shape[-1], width, batch_first=True, dtype=x.dtype)
    states, _ = torch.func.functional_call(module, _within(p, "lstm1"), (x,))
    return torch.nn.functional.linear(states[:, -1], p["output.weight"], p["output.bias"])


def _torch_block(p: Tensors, x: Any, width: int) -> Any:
    import torch
    from torch.nn import functional

    def linear(a: Any, layer: str) -> Any:
        return functional.linear(a, p[f"{layer}.weight"], p[f"{layer}.bias"])

    def normed(a: Any, layer: str) -> Any:
        return functional.layer_norm(a, (width,), p[f"{layer}.weight"], p[f"{layer}.bias"])

    module = torch.nn.MultiheadAttention(width, 4, batch_first=True, dtype=x.dtype)
    a = linear(x, "hidden1")
    h = normed(a, "layer_norm1")
    attended, _ = torch.func.functional_call(
        module, _within(p, "attention1"), (h, h, h), {"need_weights": False}
    )
    a = a + attended
    a = a + linear(functional.gelu(linear(normed(a, "layer_norm2"), "hidden2")), "hidden3")
    return linear(a.mean(dim=1), "output")


_FORWARD: Mapping[str, Callable[..., Any]] = {
    "conv": _torch_conv,
    "lstm": _torch_lstm,
    "attention": _torch_block,
}
