"""A convolution and its gradients equal torch's, for random shapes and options."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.network.steps.conv2d import Conv2d

torch = pytest.importorskip("torch")

SEEDS = range(40)


def drawn(seed: int) -> tuple[Conv2d, np.random.Generator, tuple[int, ...]]:
    """Return a random convolution that fits into random images."""
    rng = np.random.default_rng(seed)

    def pair(low: int, high: int) -> tuple[int, int]:
        return int(rng.integers(low, high)), int(rng.integers(low, high))

    groups = int(rng.choice([1, 1, 2, 3]))
    channels_in, channels = (groups * int(rng.integers(1, 4)) for _ in range(2))
    kernel, dilation, padding = pair(1, 4), pair(1, 3), pair(0, 3)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = (max(1, r - 2 * p) + int(rng.integers(0, 6)) for r, p in zip(reach, padding, strict=True))
    step = Conv2d(channels_in, channels, kernel, pair(1, 4), padding, dilation, groups)
    return step, rng, (int(rng.integers(1, 4)), channels_in, *size)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_output_and_all_gradients_equal_those_of_torch(seed):
    step, rng, shape = drawn(seed)
    x = rng.normal(size=shape)
    p = {name: rng.normal(size=of) for name, of in step.shapes.items()}
    out = step.forward(p, x)
    upstream = rng.normal(size=out.shape)
    (dL_dx,), gradients = step.vjp(p, (x,), out, upstream)

    leaves = [torch.tensor(array, requires_grad=True) for array in (x, p["weight"], p["bias"])]
    theirs = torch.nn.functional.conv2d(
        *leaves, stride=step.stride, padding=step.padding, dilation=step.dilation, groups=step.groups
    )
    theirs.backward(torch.tensor(upstream))

    ours = (out, dL_dx, gradients["weight"], gradients["bias"])
    for one, other in zip(ours, (theirs.detach(), *(leaf.grad for leaf in leaves)), strict=True):
        assert one.shape == tuple(other.shape)
        assert np.abs(one - other.numpy()).max() <= 1e-12 * np.abs(other.numpy()).max()


def test_the_options_are_all_drawn():
    steps = [drawn(seed)[0] for seed in SEEDS]
    for option in ("stride", "padding", "dilation", "groups", "kernel"):
        assert len({getattr(step, option) for step in steps}) >= 3
