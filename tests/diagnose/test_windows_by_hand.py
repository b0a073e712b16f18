"""Mistakes in convolutions of any kind, written as loops over windows, are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diagnose.alone import alone, exact, why_alone
from diagnose.networks import kinds

Array = np.ndarray
Found = dict[str, Array]

CONV1D = alone([{"conv1d": 3, "kernel": 3, "stride": 2, "padding": 1}], 2, 9)
CONV2D = alone([{"conv2d": 2, "kernel": 3, "stride": 2, "padding": 1}], 2, 5, 5)
TRANSPOSED = alone([{"conv_transpose2d": 2, "kernel": 3, "stride": 2, "padding": 1}], 2, 3, 3)


def rounds(shape: tuple[int, ...], until: str) -> Iterator[tuple[int, ...]]:
    """Yield the indices (sample, channel, *position) of a loop that ends early.

    until: "end", or what it does not get past: "sample", "position" of all samples, or "first" of all.
    """
    for at in np.ndindex(*shape):
        sample, channel, *position = at
        if until in ("sample", "first") and sample > 0:
            continue
        if until in ("position", "first") and any(position):
            continue
        if until == "first" and channel > 0:
            continue
        yield at


def convolved(
    of: Any, step: Any = 2, until: str = "end", added: bool = True, turned: str = "", bias: str = "right"
) -> Found:
    """Return the gradients of a convolution with kernels of 3 and padding 1, window by window."""
    x, delta, w = of.x, of.target, of.parameters["output.weight"]
    axes = x.ndim - 2
    flip = tuple(range(2, w.ndim))
    w_down = np.flip(w, flip) if turned == "down" else w
    padded, steps = np.pad(x, ((0, 0), (0, 0), *((1, 1),) * axes)), np.broadcast_to(step, axes)
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for n, o, *at in rounds(delta.shape, until):
        window: Any = (n, slice(None), *(slice(s * i, s * i + 3) for s, i in zip(steps, at, strict=True)))
        one = delta[(n, o, *at)]
        dw[o] += one * padded[window]
        dx[window] = dx[window] + one * w_down[o] if added else one * w_down[o]
    inner: Any = (slice(None), slice(None), *(slice(1, -1),) * axes)
    over = (0, *range(2, delta.ndim))
    counted = np.zeros_like(delta)
    for at in rounds(delta.shape, until if bias == "right" else "end"):
        counted[at] = delta[at]
    db = counted.sum(axis=over)
    if bias == "averaged":
        db = counted.sum(axis=0).reshape(len(db), -1).mean(axis=1)
    dw = np.flip(dw, flip) if turned == "weight" else dw
    return {"output.weight": dw, "output.bias": db, "input": dx[inner]}


def transposed(of: Any, step: int = 2, cut: int = 1, turned: str = "", until: str = "end") -> Found:
    """Return the gradients of a transposed convolution with kernels of 3, stride 2 and padding 1."""
    x, delta, w = of.x, of.target, of.parameters["output.weight"]
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    padded = np.pad(delta, ((0, 0), (0, 0), (cut, 2 - cut), (cut, 2 - cut)))
    right = np.pad(delta, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for n, i, r, c in rounds(x.shape, until):
        window = padded[n, :, step * r : step * r + 3, step * c : step * c + 3]
        dx[n, i, r, c] = (window * (w[i, :, ::-1, ::-1] if turned == "down" else w[i])).sum()
        dw[i] += x[n, i, r, c] * right[n, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
    dw = dw[:, :, ::-1, ::-1] if turned == "weight" else dw
    dw = dw.swapaxes(0, 1) if turned == "channels" else dw
    return {"output.weight": dw, "output.bias": delta.sum(axis=(0, 2, 3)), "input": dx}


@pytest.mark.parametrize("of", [CONV1D, CONV2D], ids=["conv1d", "conv2d"])
def test_the_convolution_by_hand_is_right(of):
    for name, gradient in convolved(of).items():
        np.testing.assert_allclose(gradient, exact(of)[name], rtol=1e-10)


def test_the_transposed_convolution_by_hand_is_right():
    for name, gradient in transposed(TRANSPOSED).items():
        np.testing.assert_allclose(gradient, exact(TRANSPOSED)[name], rtol=1e-10)


@pytest.mark.parametrize("of", [CONV1D, CONV2D], ids=["conv1d", "conv2d"])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("stride forgotten in backward", {"step": 1}),
        ("windows overwritten", {"added": False}),
        ("kernel not rotated", {"turned": "down"}),
        ("kernel's gradient rotated", {"turned": "weight"}),
        ("bias averaged over positions", {"bias": "averaged"}),
        ("returned inside the loop", {"until": "sample"}),
        ("returned inside the loop", {"until": "position"}),
        ("returned inside the loop", {"until": "first"}),
        ("returned inside the loop", {"until": "sample", "bias": "vectorised"}),
    ],
)
def test_a_mistake_in_a_convolution_is_named_first(kind, wrong, of):
    found = why_alone(of, convolved(of, **wrong))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == ("output",)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("stride forgotten on the way down", {"step": 1}),
        ("padding forgotten on the way down", {"cut": 0}),
        ("kernel not rotated", {"turned": "down"}),
        ("kernel's gradient rotated", {"turned": "weight"}),
        ("kernel's channels swapped", {"turned": "channels"}),
    ],
)
def test_a_mistake_in_a_transposed_convolution_is_named_first(kind, wrong):
    wrong_gradients = transposed(TRANSPOSED, **wrong)
    if "step" in wrong:  # only what goes down has this stride
        wrong_gradients = {**transposed(TRANSPOSED), "input": wrong_gradients["input"]}
    found = why_alone(TRANSPOSED, wrong_gradients)
    assert kinds(found)[0] == (kind,)


def test_a_stride_that_only_the_kernel_gradient_forgets_is_named_first():
    found = {**convolved(CONV2D), "output.weight": convolved(CONV2D, step=1)["output.weight"]}
    assert kinds(why_alone(CONV2D, found))[0] == ("stride forgotten in backward",)


# --- pooling -----------------------------------------------------------------------------------------------


def pooled(of: Any, until: str = "end", ties: str = "first") -> Found:
    """Return the gradients of max pooling, window by window, and of the convolution below, which is 1 × 1."""
    x, delta = of.x, of.target
    dx = np.zeros_like(x)
    for n, c, i, j in rounds(delta.shape, until):
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        largest = (window == window.max()).astype(float)
        if ties == "none" and largest.sum() > 1:
            continue
        if ties == "first":
            largest = np.eye(4)[window.argmax()].reshape(2, 2)
        dx[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += delta[n, c, i, j] * largest
    dw = np.einsum("nohw,nihw->oi", dx, x)[:, :, None, None]
    return {"output.weight": dw, "output.bias": dx.sum(axis=(0, 2, 3)), "input": dx}


def pool(of_x: Any = lambda x: x) -> Any:
    drawn = alone([{"conv2d": 2, "kernel": 1, "name": "output"}, {"max_pool2d": 2}], 2, 4, 4)
    same = {"output.weight": np.eye(2)[:, :, None, None], "output.bias": np.zeros(2)}
    return replace(drawn, x=of_x(drawn.x), parameters=same)


@pytest.mark.parametrize(("kind", "ties"), [("gradient to every tie", "all"), ("gradient to no tie", "none")])
def test_a_wrong_choice_among_equal_numbers_is_named(kind, ties):
    tied = pool(np.round)
    np.testing.assert_allclose(pooled(tied)["input"], exact(tied)["input"], rtol=1e-12)
    assert kinds(why_alone(tied, pooled(tied, ties=ties)))[0] == (kind,)


@pytest.mark.parametrize("until", ["sample", "position"])
def test_a_loop_over_windows_that_ends_early_is_named(until):
    found = why_alone(pool(), pooled(pool(), until=until))
    assert kinds(found)[0] == ("returned inside the loop",)


@pytest.mark.parametrize("step", [(1, 2), (2, 1)])
@pytest.mark.parametrize("right", [(), ("input",), ("output.weight",)])
def test_a_stride_forgotten_along_one_axis_is_named(step, right):
    found = {**convolved(CONV2D, step=step), **{name: exact(CONV2D)[name] for name in right}}
    assert kinds(why_alone(CONV2D, found))[0] == ("stride forgotten along one axis",)
