"""A layer is recognised by what forward computes, and the mistake in its backward is named."""

from __future__ import annotations

import numpy as np
import pytest
from course_layers import LAYERS, affine_backward, affine_forward, lstm_backward, lstm_forward

from gradcheck_cli import WrongGradientError, check_layer
from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.recognise import recognised

NAMED = {
    "affine": ("bias averaged", "transposed weights"),
    "batch norm": ("batch norm: gamma forgotten", "batch norm: variance term missing"),
    "layer norm": (None, "layer norm: variance term missing"),
    "dropout": ("dropout: mask not in backward", "dropout: scale forgotten"),
    "conv": ("windows overwritten", None),
    "pool": ("gradient to the smallest value", "gradient to every value in a window"),
    "rnn": ("activation derivative missing", "gradient not carried back"),
    "lstm": (None, None),
    "attention": ("softmax's sum missing", "scale forgotten in backward"),
    "softmax loss": ("target forgotten", "missing 1/N"),
}
"""The kind of each mistake of a course's layers; None for a mistake that has another name or no name."""


def diagnosis(forward, backward, inputs, **how):
    with pytest.raises(WrongGradientError) as caught:
        check_layer(forward, backward, inputs, **how)
    return caught.value.report.diagnosis


def kinds(found):
    return [cause.kind for answer in found.answers for cause in answer.causes]


@pytest.mark.parametrize(
    ("name", "slip", "kind"),
    [
        (name, slip, kind)
        for name, expected in NAMED.items()
        for slip, kind in zip(LAYERS[name][3], expected, strict=True)
        if kind
    ],
)
def test_a_mistake_in_a_layer_of_a_course_is_named(name, slip, kind):
    forward, backward, inputs, _ = LAYERS[name]
    if name == "lstm":
        found = diagnosis(forward, lambda dh, dc, cache: backward(dh, dc, cache, {slip}), inputs)
    else:
        found = diagnosis(forward, lambda dout, cache: backward(dout, cache, {slip}), inputs)
    assert kind in kinds(found)
    assert found.observations[0].startswith("forward computes the same as ")


def _drawn(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def _told(forward, inputs):
    arrays = {name: value for name, value in inputs.items() if getattr(value, "dtype", None) == np.float64}
    others = {name: value for name, value in inputs.items() if name not in arrays}
    out = np.asarray(forward(**inputs))
    return [sketch.told for sketch in recognised(Call(arrays, others, (out,), (out,)))]


def _tanh(x, w):
    return np.tanh(x @ w.T)


def _mse(x, y):
    return ((x - y) ** 2).mean()


def _silu_gate(x, w, v):
    a = x @ w
    return a / (1.0 + np.exp(-a)) * (x @ v)


def _average(x):
    return np.stack([x[:, :, k : k + 3].mean(axis=2) for k in (0, 2, 4)], axis=2)


def _softmax(s):
    e = np.exp(s)
    return e / e.sum(axis=-1, keepdims=True)


def _self_attention(x, w_qkv, b_qkv, w_o, b_o):
    n, t, d = x.shape
    q, k, v = ((x @ w_qkv.T + b_qkv).reshape(n, t, 3, 2, d // 2)[:, :, j].swapaxes(1, 2) for j in range(3))
    weights = _softmax(q @ k.swapaxes(2, 3) / np.sqrt(d // 2))
    return (weights @ v).swapaxes(1, 2).reshape(n, t, d) @ w_o.T + b_o


def _attention_of_one_sample(x, w_v, w_k, w_q, b_v, b_k, b_q):
    q, k, v = x @ w_q + b_q, x @ w_k + b_k, x @ w_v + b_v
    scores = np.where(np.tri(len(x), dtype=bool), q @ k.T / np.sqrt(x.shape[1]), -np.inf)
    return _softmax(scores) @ v


def _rnn_of_joint_weight(x, w):
    h, states = np.zeros((len(x), 5)), []
    for t in range(x.shape[1]):
        h = np.tanh(np.hstack([h, x[:, t]]) @ w)
        states.append(h)
    return np.stack(states, axis=1)


def _lstm_over_time_with_bias_row(x, w):
    h, c, states = np.zeros((x.shape[1], 3)), np.zeros((x.shape[1], 3)), []
    for x_t in x:
        joined = np.hstack([np.ones((len(h), 1)), x_t, h])
        i, f, o, g = np.split(joined @ w, 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("forward", "shapes", "others", "told"),
    [
        (
            _self_attention,
            {"x": (2, 3, 4), "w_qkv": (12, 4), "b_qkv": (12,), "w_o": (4, 4), "b_o": (4,)},
            {},
            "self-attention with 2 heads",
        ),
        (
            _attention_of_one_sample,
            {"x": (3, 4), **{f"w_{k}": (4, 4) for k in "vkq"}, **{f"b_{k}": (1, 4) for k in "vkq"}},
            {},
            "causal self-attention with 1 head",
        ),
        (_rnn_of_joint_weight, {"x": (3, 4, 2), "w": (7, 5)}, {}, "rnn"),
        (
            lambda x, w: _rnn_of_joint_weight(x.swapaxes(0, 1), w).swapaxes(0, 1),
            {"x": (4, 3, 2), "w": (7, 5)},
            {},
            "rnn (time steps first)",
        ),
        (
            _lstm_over_time_with_bias_row,
            {"x": (4, 2, 2), "w": (6, 12)},
            {},
            "lstm with its gates in another order (time steps first)",
        ),
        (_tanh, {"x": (4, 3), "w": (5, 3)}, {}, "a dense layer with the activation tanh"),
        (lambda w, x: x @ w, {"w": (3, 5), "x": (2, 4, 3)}, {}, "a dense layer"),
        (lambda x: 1 / (1 + np.exp(-x)), {"x": (4, 3)}, {}, "sigmoid"),
        (lambda w, t: w[t], {"w": (6, 3)}, {"t": np.array([[0, 2], [5, 5]])}, "an embedding"),
        (_silu_gate, {"x": (4, 3), "w": (3, 5), "v": (3, 5)}, {}, "a gated layer with the activation silu"),
        (_average, {"x": (2, 3, 7)}, {}, "avg_pool1d with a window of 3, stride 2 and padding 0"),
        (
            lambda x, g, eps: g * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps),
            {"x": (2, 5, 4), "g": (4,)},
            {"eps": 0.125},
            "rms_norm over the last axis, eps = 0.125",
        ),
        (_mse, {"x": (4, 3)}, {"y": np.ones((4, 3), "f")}, "the loss mse, with the reduction mean"),
    ],
)
def test_a_layer_is_recognised_whatever_the_order_and_the_layout_of_its_arrays(
    forward, shapes, others, told, seed
):
    assert told in _told(forward, {**_drawn(seed, **shapes), **others})


@pytest.mark.parametrize(
    ("forward", "shapes"),
    [
        (lambda x, w: np.sin(x @ w), {"x": (4, 3), "w": (3, 5)}),
        (lambda x, g: g * x / (np.abs(x).mean(axis=-1, keepdims=True)), {"x": (4, 5), "g": (5,)}),
        (lambda x: np.tanh(x) * 1.0000001, {"x": (4, 5)}),
    ],
)
def test_a_layer_that_is_not_ours_is_not_recognised(forward, shapes):
    assert _told(forward, _drawn(3, **shapes)) == []


def test_a_mistake_that_the_tables_do_not_hold_gets_no_name():
    def backward(dout, cache):
        dx, dw, db = affine_backward(dout, cache)
        return dx, dw + 0.1 * np.sin(np.arange(dw.size).reshape(dw.shape)), db

    inputs = _drawn(4, x=(4, 6), w=(6, 5), b=5)
    assert diagnosis(affine_forward, backward, inputs).answers == ()


def test_a_gradient_with_nan_is_not_explained_by_a_mistake_in_the_other_entries():
    def backward(dout, cache):
        dx, dw, db = affine_backward(dout, cache, {"mean"})
        db[0] = np.nan
        return dx, dw, db

    found = diagnosis(affine_forward, backward, _drawn(5, x=(4, 6), w=(6, 5), b=5))
    assert "bias averaged" not in kinds(found)


def test_gates_are_named_in_the_order_of_the_users_weights():
    _, _, inputs, _ = LAYERS["lstm"]

    def backward(dh, dc, cache):
        *first, dwx, dwh, db = lstm_backward(dh, dc, cache)
        swapped = [*range(10), *range(15, 20), *range(10, 15)]
        return *first, dwx[:, swapped], dwh[:, swapped], db[swapped]

    (answer,) = diagnosis(lstm_forward, backward, inputs).answers
    assert answer.causes[0].kind == "gates in another order"
    assert answer.causes[0].sentence.endswith("in the order i f g o, not i f o g.")


def test_the_product_of_an_lstm_with_the_mistake_is_named():
    _, _, inputs, _ = LAYERS["lstm"]

    def backward(dh, dc, cache):
        dx, dprev_h, dprev_c, *rest = lstm_backward(dh, dc, cache)
        return dx, dprev_h, dprev_c / cache[6], *rest  # cache[6] is the forget gate

    cause = diagnosis(lstm_forward, backward, inputs).answers[0].causes[0]
    assert cause.kind == "other factor forgotten"
    assert cause.sentence.startswith("In the product with f of layer lstm")


def test_a_mistake_in_a_layer_with_time_steps_first_is_named():
    forward, backward, inputs, (_, slip) = LAYERS["rnn"]

    def forward_over_time(x, h0, wx, wh, b):
        out, cache = forward(np.swapaxes(x, 0, 1), h0, wx, wh, b)
        return np.swapaxes(out, 0, 1), cache

    def backward_over_time(dout, cache):
        dx, *others = backward(np.swapaxes(dout, 0, 1), cache, {slip})
        return np.swapaxes(dx, 0, 1), *others

    inputs = {**inputs, "x": np.swapaxes(inputs["x"], 0, 1)}
    found = diagnosis(forward_over_time, backward_over_time, inputs)
    assert "gradient not carried back" in kinds(found)
    assert found.observations[0] == "forward computes the same as rnn (time steps first)."
