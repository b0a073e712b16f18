"""Networks with every kind of layer against torch: loss and all gradients, at random shapes and options."""

from __future__ import annotations

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


def conv1d(x, p, layer):
    options = (layer[key] for key in ("stride", "padding", "dilation", "groups"))
    return F.conv1d(x, p["hidden2.weight"], p["hidden2.bias"], *options)


def conv_transpose2d(x, p, layer):
    options = (layer[key] for key in ("stride", "padding", "output_padding", "groups", "dilation"))
    return F.conv_transpose2d(x, p["hidden2.weight"], p["hidden2.bias"], *options)


THEIRS = {
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": lambda x, p, layer: F.adaptive_avg_pool2d(x, layer["adaptive_avg_pool2d"]),
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
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
