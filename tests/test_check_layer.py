"""`check_layer`, with forward and backward functions as people write them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from course_layers import LAYERS, relu_backward, relu_forward

from gradcheck_cli import InputError, Verdict, WrongGradientError, check_layer

X = np.random.default_rng(8).normal(size=(3, 4))


def slipping(backward, slip, outputs=1):
    """Return the backward with one slip, with the signature of the original."""
    if outputs == 2:
        return lambda dh, dc, cache: backward(dh, dc, cache, {slip})
    return lambda dout, cache: backward(dout, cache, {slip})


@pytest.mark.parametrize("name", LAYERS)
def test_a_right_layer_agrees_in_every_input(name):
    forward, backward, inputs, _ = LAYERS[name]
    report = check_layer(forward, slipping(backward, "", 1 + (name == "lstm")), inputs)
    assert report.passed
    assert [c.name for c in report.comparisons] == [
        argument for argument, value in inputs.items() if getattr(value, "dtype", None) == np.float64
    ]


@pytest.mark.parametrize(("name", "slip"), [(name, slip) for name, row in LAYERS.items() for slip in row[3]])
def test_a_wrong_layer_is_wrong(name, slip):
    forward, backward, inputs, _ = LAYERS[name]
    with pytest.raises(WrongGradientError):
        check_layer(forward, slipping(backward, slip, 1 + (name == "lstm")), inputs)


def why(forward, backward, inputs, **how):
    with pytest.raises(WrongGradientError) as caught:
        check_layer(forward, backward, inputs, **how)
    return str(caught.value)


def ignores(dout, cache):
    return 1.0 * (cache > 0.0)


def squares(dout, cache):
    return dout**2 * (cache > 0.0)


def by_sign(dout, cache):
    return np.abs(dout) * (cache > 0.0)


def reads_memory(dout, cache):
    """Reads as many numbers as it needs from where its upstream begins, as C code does."""
    whole = dout if dout.base is None else dout.base
    return whole.ravel()[: dout.size].reshape(dout.shape) * (cache > 0.0)


def by_largest(dout, cache):
    """Is in proportion to its upstream, but not additive."""
    return np.where(dout == dout.max(), 2.0 * dout, dout) * (cache > 0.0)


@pytest.mark.parametrize(
    ("backward", "said"),
    [
        (
            ignores,
            "ignores does not use its upstream gradient: with the loss multiplied by -0.5, the gradient of x",
        ),
        (
            squares,
            "squares uses its upstream gradient twice: with the loss multiplied by -0.5, the gradient of x",
        ),
        (by_sign, "by_sign is not linear in its upstream gradient: with the loss multiplied by -0.5"),
    ],
)
def test_what_backward_does_with_its_upstream_is_named(backward, said):
    assert said in " ".join(why(relu_forward, backward, X).split())


def test_a_backward_that_reads_the_memory_of_its_upstream_is_wrong():
    text = " ".join(why(relu_forward, reads_memory, X).split())
    assert "reads_memory reads its upstream gradient as if it were contiguous" in text
    assert "Backward receives c in another memory layout." in text


def test_taps_are_proposed_if_nothing_explains_a_wrong_gradient():
    text = " ".join(why(lambda x: (np.sin(x), x), lambda dout, x: dout * np.sin(x), X).split())
    assert 'mark intermediate results of the forward pass with h = tap("h", h)' in text
    text = why(lambda x: (np.sin(x), x), lambda dout, x: 2.0 * dout * np.cos(x), X)
    assert "tap" not in text


def product_forward(x, w):
    return x * w


@pytest.mark.parametrize(
    "backward",
    [
        lambda dout, x, w: (dout * w, dout * x),
        lambda dout, w, x: {"x": dout * w, "w": dout * x},
        lambda dout, w, x: {"dx": dout * w, "dw": dout * x},
        lambda dout, a, b: [dout * b, dout * a],
    ],
    ids=["by name", "a dict", "a dict of d…", "by position"],
)
def test_backward_may_take_the_arguments_of_forward(backward):
    assert check_layer(product_forward, backward, {"x": X, "w": X + 1.0}).passed


def test_inputs_may_be_given_in_order():
    report = check_layer(product_forward, lambda dout, x, w: (dout * w, dout * x), (X, X + 1.0))
    assert [c.name for c in report.comparisons] == ["x", "w"]


class Tanh:
    """A layer that keeps its cache itself."""

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1.0 - self.y**2)


def test_an_object_may_keep_its_cache():
    layer = Tanh()
    assert check_layer(layer.forward, layer.backward, X).passed


def test_several_outputs_each_get_an_upstream_of_their_own():
    def forward(x):
        return np.sin(x), np.cos(x)

    def right(dsin, dcos, x):
        return dsin * np.cos(x) - dcos * np.sin(x)

    def swapped(dsin, dcos, x):
        return dcos * np.cos(x) - dsin * np.sin(x)

    assert check_layer(forward, right, X).passed
    assert "wrong" in why(forward, swapped, X)


def test_outputs_says_where_the_cache_begins():
    class Both(Tanh):
        def forward(self, x):
            return super().forward(x), 2.0 * x

        def backward(self, dy, dtwice):
            return super().backward(dy) + 2.0 * dtwice

    layer = Both()
    assert check_layer(layer.forward, layer.backward, X, outputs=2).passed


def test_an_input_without_a_gradient_is_not_checked():
    mask = np.where(X > 0.0, 1.0, 0.0)
    report = check_layer(
        lambda x, mask: (x * mask, mask), lambda dout, mask: (dout * mask, None), {"x": X, "mask": mask}
    )
    assert [c.name for c in report.comparisons] == ["x"]
    assert any(
        "returns None for mask, whose gradient is therefore not checked" in note for note in report.unusual
    )


def test_an_upstream_that_is_changed_in_place_is_told():
    def backward(dout, cache):
        dout *= cache > 0.0
        return dout

    report = check_layer(relu_forward, backward, X)
    assert report.passed
    assert any("changes its upstream gradient in place" in note for note in report.unusual)


def test_options_that_forward_changes_are_fresh_in_every_call():
    def forward(x, state):
        state["calls"] += 1
        return x * state["calls"], state["calls"]

    assert check_layer(forward, lambda dout, calls: dout * calls, {"x": X, "state": {"calls": 1}}).passed


def test_float32_inputs_are_checked_in_float64():
    report = check_layer(relu_forward, lambda dout, cache: relu_backward(dout, cache), X.astype(np.float32))
    assert report.verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("forward", "backward", "inputs", "said"),
    [
        (None, relu_backward, X, "forward is None; a function is needed"),
        (relu_forward, 3, X, "backward is an int; a function is needed"),
        (relu_forward, relu_backward, {"x": [1.0]}, "relu_forward has no arguments to differentiate"),
        (
            relu_forward,
            lambda dout, cache: (dout, dout),
            X,
            "returns 2 gradients, but forward takes 1 array of floats: x",
        ),
        (
            relu_forward,
            lambda dout, cache: {"z": dout},
            X,
            "returns gradients of z; gradients of x are needed",
        ),
        (relu_forward, lambda dout, cache: dout[:2], X, "[2, 4]"),
        (relu_forward, lambda dout, cache: None, X, "returns no gradient, only None"),
        (relu_forward, lambda dout, a, b, c: dout, X, "does not fit relu_forward: forward returns 2 results"),
        (lambda x: (x > 0, x), lambda dout, cache: dout, X, "returns numbers of type bool as an output"),
        (relu_forward, relu_backward, X * np.nan, "holds numbers that are not finite"),
        (relu_forward, relu_backward, X * (1 + 1j), "has no arguments to differentiate"),
    ],
)
def test_functions_that_do_not_fit_are_refused_with_a_message(forward, backward, inputs, said):
    with pytest.raises(InputError) as caught:
        check_layer(forward, backward, inputs)
    assert said in str(caught.value)


def test_an_error_of_the_code_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        check_layer(lambda x: 1 / 0, relu_backward, X)


@pytest.mark.parametrize("seed", range(3))
def test_a_slip_of_one_percent_in_one_entry_is_wrong(seed):
    rng = np.random.default_rng(seed)
    forward, backward, inputs, _ = LAYERS["affine"]
    place = tuple(rng.integers(inputs["w"].shape))

    def spoilt(dout, cache):
        dx, dw, db = backward(dout, cache)
        dw[place] *= 1.01
        return dx, dw, db

    assert f"w{[*map(int, place)]}" in why(forward, spoilt, inputs)


def test_only_and_fast_are_those_of_check_gradients():
    forward, backward, inputs, _ = LAYERS["affine"]
    report = check_layer(
        forward, partial(backward, slips=frozenset()), inputs, only="w", fast=True, rtol=1e-3
    )
    assert [c.name for c in report.comparisons] == ["w"]
    assert report.differences == "directions"


def affine(x, w, b):
    return x @ w.T + b, (x, w)


def affine_backward(axes):
    """Return the backward of `affine` with the bias's gradient summed over these axes."""

    def backward(dout, cache):
        x, w = cache
        dw = dout.reshape(-1, dout.shape[-1]).T @ x.reshape(-1, x.shape[-1])
        return dout @ w, dw, dout.sum(axis=axes)

    return backward


@pytest.mark.parametrize(
    ("shape", "axes", "told"),
    [
        ((4, 4), 1, "axis 1; the sum over axis 0 has"),
        ((4, 3, 4), (1, 2), "axes 1, 2; the sum over axes 0, 1 has"),
        ((4, 4, 4), (0, 2), "axes 0, 2; the sum over axes 0, 1 or axes 1, 2 has"),
    ],
)
def test_a_bias_summed_over_other_axes_of_the_same_length_is_named(shape, axes, told):
    rng = np.random.default_rng(len(shape))
    inputs = {"x": rng.normal(size=(*shape[:-1], 3)), "w": rng.normal(size=(shape[-1], 3)), "b": np.ones(4)}
    sentence = f"The gradient of b is the upstream gradient, summed over {told}"
    assert sentence in " ".join(why(affine, affine_backward(axes), inputs).split())
    right = tuple(range(len(shape) - 1))
    assert "summed over" not in str(check_layer(affine, affine_backward(right), inputs))
