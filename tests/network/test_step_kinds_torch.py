"""Every kind of step equals torch, output and all gradients, for random shapes and options."""

from __future__ import annotations

import numpy as np
import pytest
from step_kinds import KINDS, Draw

from gradcheck_cli.network.steps.dense import Dense

torch = pytest.importorskip("torch")
F = torch.nn.functional

DRAWS = 40


def like(array, x):
    return torch.as_tensor(np.ascontiguousarray(array), dtype=x.dtype)


def spread(parameter, step):
    return parameter.reshape(-1, *(1,) * step.positions)


def conv(step, p, x):
    options = (step.stride, step.padding, step.dilation, step.groups)
    return F.conv1d(x, p["weight"], p["bias"], *options)


def conv_transpose(step, p, x):
    options = (step.stride, step.padding, step.output_padding, step.groups, step.dilation)
    return F.conv_transpose2d(x, p["weight"], p["bias"], *options)


def avg_pool(step, p, x):
    pool = (F.avg_pool1d, F.avg_pool2d)[len(step.kernel) - 1]
    options = (step.kernel, step.stride, step.padding)
    return pool(x, *options, count_include_pad=step.count_include_pad)


def max_pool1d(step, p, x):
    return F.max_pool1d(x, step.kernel, step.stride, step.padding, step.dilation)


def padded_softmax(step, p, z, padding):
    left_out = (padding > 0.5)[:, None, None] | ~torch.as_tensor(step.mask)
    shares = torch.softmax(z.masked_fill(left_out, -torch.inf), dim=-1)
    return torch.where(left_out.all(-1, keepdim=True), 0.0, shares) + 0.0 * padding.sum()


def unbiased(step, p, z):
    over = (0, *range(2, z.ndim))
    centred = z - z.mean(over, keepdim=True)
    return centred / (z.var(over, unbiased=True, keepdim=True) + step.eps).sqrt()


def fixed(step, p, z):
    return F.batch_norm(z, like(step.mean, z), like(step.variance, z), eps=step.eps)


def softmax(step, p, z):
    return torch.softmax(z.masked_fill(~torch.as_tensor(step.mask), -torch.inf), dim=-1)


def rotary(step, p, x):
    """Turn each pair as a complex number."""
    half = x.shape[-1] // 2
    pairs = x.unflatten(-1, (half, 2)) if step.interleaved else x.unflatten(-1, (2, half)).transpose(-1, -2)
    angles = torch.atan2(like(step.sin, x), like(step.cos, x))
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.exp(1j * angles))
    return (turned if step.interleaved else turned.transpose(-1, -2)).flatten(-2)


def prelu(step, p, z):
    return F.prelu(z, p["weight"])


def matmul(step, p, a, b):
    return step.scale * (a @ (b.mT if step.transposed else b))


def constant(step, p, x):
    return like(step.value, x).expand(len(x), *step.value.shape) + 0.0 * x.sum()


def weight_norm(step, p, x):
    own = {"weight": torch._weight_norm(p["weight_v"], p["weight_g"], 0), "bias": p["bias"]}
    if isinstance(step.plain, Dense):
        return F.linear(x, own["weight"], own["bias"])
    return (conv if x.ndim == 3 else conv_transpose)(step.plain, own, x)


THEIRS = {
    "conv1d": conv,
    "conv_transpose2d": conv_transpose,
    "max_pool1d": max_pool1d,
    "offset": lambda step, p, x: x + like(step.value, x),
    "maxout": lambda step, p, z: z.unflatten(-1, (-1, step.kernel[0])).amax(-1),
    "avg_pool1d": avg_pool,
    "avg_pool2d": avg_pool,
    "adaptive_avg_pool1d": lambda step, p, x: F.adaptive_avg_pool1d(x, step.size),
    "adaptive_max_pool1d": lambda step, p, x: F.adaptive_max_pool1d(x, step.size),
    "adaptive_max_pool2d": lambda step, p, x: F.adaptive_max_pool2d(x, step.size),
    "adaptive_avg_pool2d": lambda step, p, x: F.adaptive_avg_pool2d(x, step.size),
    "mean": lambda step, p, x: x.mean(1 + step.axis),
    "batch_norm, unbiased": unbiased,
    "group_norm": lambda step, p, z: F.group_norm(z, step.groups, eps=step.eps),
    "instance_norm": lambda step, p, z: F.instance_norm(z, eps=step.eps),
    "batch_norm, fixed": fixed,
    "rms_norm": lambda step, p, x: F.rms_norm(x, x.shape[-step.axes :], eps=step.eps),
    "gain": lambda step, p, x: p["weight"] * x,
    "add": lambda step, p, a, b: a + b,
    "complement": lambda step, p, x: 1 - x,
    "multiply": lambda step, p, a, b: a * b,
    "matmul": matmul,
    "weight_norm": weight_norm,
    "softmax": softmax,
    "padded softmax": padded_softmax,
    "log_softmax": lambda step, p, z: torch.log_softmax(z, -1),
    "reshape": lambda step, p, x: x.reshape(len(x), *step.shape),
    "permute": lambda step, p, x: x.permute(0, *(1 + axis for axis in step.order)),
    "slice": lambda step, p, x: x.narrow(1 + step.axis, step.start, step.stop - step.start),
    "select": lambda step, p, x: x.select(1 + step.axis, step.index),
    "concatenate": lambda step, p, *inputs: torch.cat(inputs, 1 + step.axis),
    "stack": lambda step, p, *inputs: torch.stack(inputs, 1 + step.axis),
    "repeat": lambda step, p, x: x.repeat_interleave(step.times, 1 + step.axis),
    "constant": constant,
    "dropout of each sample": lambda step, p, x, mask: x * mask * step.scale,
    "dropout": lambda step, p, x: x * like(step.mask, x),
    "rotary": rotary,
    "learned state": lambda step, p, x: x + p["weight"],
    "positional": lambda step, p, x: x + p["weight"],
    "prelu": prelu,
}


def test_every_kind_is_compared():
    assert THEIRS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_and_all_gradients_equal_those_of_torch(kind):
    for seed in range(DRAWS):
        draw = Draw(seed)
        step, features = KINDS[kind](draw)
        samples = draw.size(3, 5)
        p = {name: draw.rng.normal(size=shape) for name, shape in step.shapes.items()}
        inputs = tuple(draw.rng.normal(size=(samples, *each)) for each in features)
        out = step.forward(p, *inputs)
        upstream = draw.rng.normal(size=out.shape)
        handed, gradients = step.vjp(p, inputs, out, upstream)

        theirs_p = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
        theirs_inputs = [torch.tensor(x, requires_grad=True) for x in inputs]
        theirs = THEIRS[kind](step, theirs_p, *theirs_inputs)
        theirs.backward(torch.tensor(upstream))
        equal(out, theirs.detach(), f"{kind}, draw {seed}, output")
        for i, x in enumerate(theirs_inputs):
            equal(handed[i], x.grad, f"{kind}, draw {seed}, input {i}")
        for name, parameter in theirs_p.items():
            equal(gradients[name], parameter.grad, f"{kind}, draw {seed}, {name}")


def equal(ours, theirs, what):
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape, what
    largest = np.abs(theirs).max(initial=0.0)
    assert np.abs(ours - theirs).max(initial=0.0) <= 1e-12 * max(largest, 1e-2), what


@pytest.mark.parametrize("kind", KINDS)
def test_the_draws_differ(kind):
    steps = [KINDS[kind](Draw(seed)) for seed in range(DRAWS)]
    assert len({(drawn.features, repr(drawn.step)) for drawn in steps}) >= DRAWS // 2
