"""Networks with every kind of layer match torch: loss and all gradients, for random shapes and options."""

from __future__ import annotations

import numpy as np
import pytest
from layer_kinds import KINDS

from tests.network.step_kinds import Draw
from tests.network.test_graphs_torch import compared

torch = pytest.importorskip("torch")
F = torch.nn.functional

DRAWS = 40


def avg_pool2d(x, p, layer):
    window, padding = layer["avg_pool2d"], layer["padding"]
    counts = layer.get("count_include_pad", True)
    return F.avg_pool2d(x, window, layer.get("stride"), padding, count_include_pad=counts)


def pool1d(x, p, layer):
    options = (layer.get("stride"), layer["padding"])
    if "max_pool1d" in layer:
        return F.max_pool1d(x, layer["max_pool1d"], *options, layer["dilation"])
    return F.avg_pool1d(x, layer["avg_pool1d"], *options, count_include_pad=layer["count_include_pad"])


def maxout(x, p, layer):
    z = F.linear(x, p["maxout1.weight"], p["maxout1.bias"])
    return z.unflatten(-1, (layer["maxout"], layer["pieces"])).amax(-1)


def weight_norm(x, p, layer):
    weight = torch._weight_norm(p["hidden2.weight_v"], p["hidden2.weight_g"], 0)
    own = {"hidden2.weight": weight, "hidden2.bias": p["hidden2.bias"]}
    return conv1d(x, own, layer) if "conv1d" in layer else F.linear(x, weight, p["hidden2.bias"])


def without_bias(x, p, layer):
    if "weight_norm" not in layer:
        return F.linear(x, p["hidden2.weight"])
    return F.linear(x, torch._weight_norm(p["hidden2.weight_v"], p["hidden2.weight_g"], 0))


def fixed_norm(x, p, layer):
    """Normalise as torch.nn.BatchNorm1d does in eval mode."""
    weight, bias, gamma, beta = (p[f"hidden2.{own}"] for own in ("weight", "bias", "gamma", "beta"))
    z = F.conv1d(x, weight, bias) if "conv1d" in layer else F.linear(x, weight, bias)
    mean, variance = (
        torch.tensor(layer["batch_norm"][f"running_{own}"], dtype=z.dtype) for own in ("mean", "var")
    )
    return F.batch_norm(z, mean, variance, gamma, beta)


def rotary(x, p, layer):
    """Turn pairs of numbers as complex numbers."""
    tokens, half = x.shape[-2], x.shape[-1] // 2
    angles = layer.get("base", 10000.0) ** (-torch.arange(half, dtype=x.dtype) / half)
    turn = torch.polar(torch.ones((), dtype=x.dtype), torch.arange(tokens, dtype=x.dtype)[:, None] * angles)
    if layer.get("interleaved"):
        pairs = torch.view_as_complex(x.unflatten(-1, (half, 2)).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([turned.real, turned.imag], -1)


def given_dropout(x, p, layer):
    kept = x * torch.tensor(layer["mask"], dtype=x.dtype)
    return kept / (1.0 - layer["dropout"]) if layer["inverted"] else kept


def over_an_axis(function):
    return lambda x, p, layer: function(x, axis(layer) if isinstance(layer, dict) else -1)


def conv1d(x, p, layer):
    options = (layer[key] for key in ("stride", "padding", "dilation", "groups"))
    return F.conv1d(x, p["hidden2.weight"], p["hidden2.bias"], *options)


def conv_transpose2d(x, p, layer):
    options = (layer[key] for key in ("stride", "padding", "output_padding", "groups", "dilation"))
    return F.conv_transpose2d(x, p["hidden2.weight"], p["hidden2.bias"], *options)


def norm(function, key):
    """Return a norm over the last axes, with the parameters that are there."""

    def of_layer(x, p, layer):
        shape = list(x.shape[-1:]) if layer[key] is True else layer[key]
        found = (p.get(f"{key}1.{own}") for own in ("weight", "bias"))
        parameters = [found for found in found if found is not None]
        return function(x, shape, *parameters, eps=layer.get("eps"))

    return of_layer


def group_norm(x, p, layer):
    parameters = (p.get(f"group_norm1.{own}") for own in ("weight", "bias"))
    return F.group_norm(x, layer["group_norm"], *parameters, eps=layer["eps"])


def instance_norm(x, p, layer):
    weight, bias = (p.get(f"instance_norm1.{own}") for own in ("weight", "bias"))
    return F.instance_norm(x, weight=weight, bias=bias)


def batch_norm(x, p, layer):
    """Normalise as makemore does, with the variance of N − 1."""
    z = F.linear(x, p["hidden2.weight"], p["hidden2.bias"])
    over = tuple(range(z.ndim - 1))
    root = (z.var(over, unbiased=True) + layer["batch_norm"]["eps"]).sqrt()
    return torch.tanh(p["hidden2.gamma"] * (z - z.mean(over)) / root + p["hidden2.beta"])


def dropout(x, p, layer):
    """Drop with the documented mask, scaled as torch does in training."""
    mask = np.random.default_rng(layer["seed"]).random(x.shape[1:]) >= layer["dropout"]
    return x * torch.tensor(mask) / (1.0 - layer["dropout"])


def permute(x, p, layer):
    return x.permute(0, *(1 + axis for axis in layer["permute"]))


def axis(layer):
    """Return the axis of an array with the batch in front."""
    dim = layer.get("dim", 0)
    return dim if dim < 0 else 1 + dim


THEIRS = {
    "max_pool1d": pool1d,
    "avg_pool1d": pool1d,
    "adaptive_avg_pool1d": lambda x, p, layer: F.adaptive_avg_pool1d(x, layer["adaptive_avg_pool1d"]),
    "maxout": maxout,
    "weight_norm": weight_norm,
    "units, without bias": without_bias,
    "batch_norm, fixed": fixed_norm,
    "rotary": rotary,
    "dropout, given": given_dropout,
    "avg_pool2d": avg_pool2d,
    "adaptive_max_pool1d": lambda x, p, layer: F.adaptive_max_pool1d(x, layer["adaptive_max_pool1d"]),
    "adaptive_max_pool2d": lambda x, p, layer: F.adaptive_max_pool2d(x, layer["adaptive_max_pool2d"]),
    "adaptive_avg_pool2d": lambda x, p, layer: F.adaptive_avg_pool2d(x, layer["adaptive_avg_pool2d"]),
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
    "layer_norm": norm(F.layer_norm, "layer_norm"),
    "rms_norm": norm(F.rms_norm, "rms_norm"),
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm, unbiased": batch_norm,
    "positional_embedding": lambda x, p, layer: x + p["positional_embedding1.weight"],
    "dropout": dropout,
    "prelu": lambda x, p, layer: F.prelu(x, p["prelu1.weight"]),
    "softmax": over_an_axis(torch.softmax),
    "log_softmax": over_an_axis(torch.log_softmax),
    "mean": lambda x, p, layer: x.mean(axis(layer)),
    "select": lambda x, p, layer: x.select(axis(layer), layer["select"]),
    "permute": permute,
    "reshape": lambda x, p, layer: x.reshape(len(x), *layer["reshape"]),
}


def test_every_kind_is_compared():
    assert THEIRS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_all_gradients_equal_those_of_torch(kind):
    for seed in range(DRAWS):
        drawn = KINDS[kind](Draw(seed))
        linear = F.conv2d if len(drawn.features) == 3 else F.linear

        def forward(x, p, drawn=drawn, linear=linear):
            below = torch.tanh(linear(x, p["hidden1.weight"], p["hidden1.bias"]))
            out = THEIRS[kind](below, p, drawn.layer).flatten(1)
            return F.linear(out, p["output.weight"], p["output.bias"])

        compared(drawn.spec(seed), forward, F.cross_entropy)


@pytest.mark.parametrize("kind", KINDS)
def test_the_draws_differ(kind):
    assert len({repr(KINDS[kind](Draw(seed))) for seed in range(DRAWS)}) >= DRAWS // 4
