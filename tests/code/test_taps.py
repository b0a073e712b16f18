"""Taps: gradients of intermediates are checked, and wrong ones show where the fault lies."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gradcheck_cli import InputError, WrongGradientError, check_gradients, check_layer, tap


def simple(parameters):
    h = tap("h", np.tanh(parameters["w"]))
    return (h**2).sum(), {"w": 2.0 * h * (1.0 - h**2), "h": 2.0 * h}


W = {"w": np.array([0.3, -0.8])}


def test_a_tap_is_checked_as_a_tensor_of_its_own():
    report = check_gradients(simple, W)
    assert [c.name for c in report.comparisons] == ["w", "h"]
    assert report.passed


def test_a_wrong_tap_is_wrong_even_if_the_parameters_are_right():
    def wrong(parameters):
        loss, gradients = simple(parameters)
        return loss, {**gradients, "h": 1.01 * gradients["h"]}

    with pytest.raises(WrongGradientError) as caught:
        check_gradients(wrong, W)
    (place,) = caught.value.report.diagnosis.places
    assert re.match(r"∂L/∂h \(test_taps.py:\d+\) is wrong, and there is no tap between h and the loss", place)


def test_the_place_stands_in_the_text_with_its_lines():
    def wrong(parameters):
        loss, gradients = simple(parameters)
        return loss, {**gradients, "w": gradients["h"]}

    with pytest.raises(WrongGradientError) as caught:
        check_gradients(wrong, W)
    text = " ".join(str(caught.value).split())
    assert re.search(
        r"Where: ∂L/∂h \(test_taps.py:\d+\) is right, but ∂L/∂w is wrong: the fault lies between", text
    )


def test_a_way_past_all_taps_is_told():
    def skipping(parameters):
        w = parameters["w"]
        h = tap("h", np.tanh(w))
        return (h**2 + w**3).sum(), {"w": 2.0 * h * (1.0 - h**2), "h": 2.0 * h}

    with pytest.raises(WrongGradientError) as caught:
        check_gradients(skipping, W)
    assert caught.value.report.diagnosis.places[0].endswith("or on a path without taps from w to the loss")


def places(function):
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(function, W)
    return caught.value.report.diagnosis.places


def test_a_tap_with_two_ways_up_is_between_both_next_taps():
    """g depends on h directly, and also through f."""

    def forgets_a_way(parameters):
        h = tap("h", parameters["w"] ** 2)
        f = tap("f", np.sin(h))
        g = tap("g", h * f)
        dg = np.cos(g)
        df = dg * h
        dh = df * np.cos(h)  # forgets dg * f
        return np.sin(g).sum(), {"g": dg, "f": df, "h": dh, "w": 2.0 * parameters["w"] * dh}

    (place,) = places(forgets_a_way)
    assert re.search(r"^∂L/∂f \(.*\) and ∂L/∂g \(.*\) are right, but ∂L/∂h .* between h and these$", place)


def test_a_way_through_a_relu_that_is_off_counts():
    def lets_all_through(parameters):
        z = tap("z", -np.abs(parameters["w"]))
        a, b = tap("a", np.maximum(z, 0.0)), tap("b", np.sin(z))
        da, db = np.ones(2), np.ones(2)
        dz = da + db * np.cos(z)  # forgets the mask of the relu
        return (a + b).sum(), {"a": da, "b": db, "z": dz, "w": -np.sign(parameters["w"]) * dz}

    (place,) = places(lets_all_through)
    assert re.search(r"^∂L/∂a \(.*\) and ∂L/∂b \(.*\) are right, but ∂L/∂z .* between z and these$", place)


def test_a_gradient_that_is_changed_after_its_use_is_told():
    def in_place(parameters):
        h = tap("h", np.tanh(parameters["w"]))
        dh = 2.0 * h
        gradients = {"h": dh}
        dh *= 1.0 - h**2
        return (h**2).sum(), {**gradients, "w": dh}

    (place,) = places(in_place)
    assert place.endswith("; or backward changes ∂L/∂h in place after using it, since ∂L/∂w is right")


def test_a_gradient_of_what_the_loss_does_not_use_has_no_place():
    def leaves_v_out(parameters):
        loss, gradients = simple(parameters)
        return loss, {**gradients, "v": np.ones(1)}

    with pytest.raises(WrongGradientError) as caught:
        check_gradients(leaves_v_out, {**W, "v": np.ones(1)})
    (place,) = caught.value.report.diagnosis.places
    assert place == "∂L/∂v is wrong: it must be 0, since the loss does not depend on v"


@pytest.mark.parametrize(
    ("error", "largest"),
    [(ValueError, 0.8 * (1.0 + 2.0**-12)), (ZeroDivisionError, 0.8 * (1.0 + 2.0**-12)), (IndexError, 1.6)],
)
def test_a_place_is_found_although_the_code_refuses_some_points(error, largest):
    def within(parameters):
        w = parameters["w"]
        if np.abs(w).max() > largest:
            raise error("out of the domain")
        loss, gradients = simple(parameters)
        return loss, {**gradients, "w": gradients["h"]}

    (place,) = places(within)
    assert "the fault lies between" in place


HIDDEN = np.triu(np.ones((3, 3), dtype=bool), 1)


def masked_attention(parameters, factor=1.0):
    """Return the loss of causal attention, and its gradients. The factor multiplies that of the scores."""
    x = np.random.default_rng(4).normal(size=(3, 2))
    q = x @ parameters["w"]
    s = tap("s", np.where(HIDDEN, -np.inf, q @ x.T))
    e = np.exp(s - s.max(axis=1, keepdims=True))
    a = tap("a", e / e.sum(axis=1, keepdims=True))
    da = np.cos(a @ x) @ x.T
    ds = factor * a * (da - (da * a).sum(axis=1, keepdims=True))
    return np.sin(a @ x).sum(axis=1), {"w": x.T @ (ds @ x), "a": da, "s": ds}


def test_a_tap_may_hold_infinite_scores_of_a_mask():
    weights = {"w": np.random.default_rng(5).normal(size=(2, 2))}
    assert check_gradients(masked_attention, weights).passed
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(lambda p: masked_attention(p, 1.01), weights)
    (place,) = caught.value.report.diagnosis.places
    assert re.match(r"∂L/∂a \(.*\) is right, but ∂L/∂s \(.*\) is wrong", place)


def test_a_tap_whose_gradient_is_not_returned_does_nothing():
    def quiet(parameters):
        loss, gradients = simple(parameters)
        return loss, {"w": gradients["w"]}

    assert [c.name for c in check_gradients(quiet, W).comparisons] == ["w"]


def test_outside_a_check_a_tap_returns_its_very_value():
    value = np.ones(3)
    assert tap("h", value) is value


def test_a_tap_in_a_layer_is_checked_if_backward_returns_a_dict():
    def forward(x, w):
        z = tap("z", x @ w)
        return np.tanh(z), (x, w, np.tanh(z))

    def backward(dout, cache):
        x, w, a = cache
        dz = dout * (1.0 - a**2)
        return {"dx": dz @ w.T, "dw": x.T @ dz, "dz": dz}

    inputs = {"x": np.eye(3, 4), "w": 0.1 * np.arange(8.0).reshape(4, 2)}
    assert [c.name for c in check_layer(forward, backward, inputs).comparisons] == ["x", "w", "z"]


def twice(parameters):
    for _ in range(2):
        h = tap("h", np.tanh(parameters["w"]))
    return (h**2).sum(), {"w": h, "h": h}


def unused(parameters):
    h = np.tanh(parameters["w"])
    tap("h", h)
    return (h**2).sum(), {"w": 2.0 * h * (1.0 - h**2), "h": 2.0 * h}


def sometimes():
    calls = []

    def function(parameters):
        calls.append(1)
        h = np.tanh(parameters["w"])
        h = tap("h", h) if len(calls) <= 2 else h
        return (h**2).sum(), {"w": 2.0 * h * (1.0 - h**2), "h": 2.0 * h}

    return function


def named_like_a_parameter(parameters):
    w = tap("w", parameters["w"])
    return (w**2).sum(), {"w": 2.0 * w}


def swapped(parameters):
    return (tap(parameters["w"], "h") ** 2).sum(), {}


def of_integers(parameters):
    tap("h", np.arange(3))
    return simple(parameters)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (twice, r"twice calls tap\('h', …\) twice, at test_taps.py:\d+ and at test_taps.py:\d+"),
        (
            unused,
            r"unused does not use what tap\('h', …\) returns at test_taps.py:\d+: the loss does not",
        ),
        (
            of_integers,
            r"of_integers passes numbers of type int64 to tap\('h', …\) at test_taps.py:\d+; an array",
        ),
        (sometimes(), r"function calls tap\('h', …\) at test_taps.py:\d+ in some runs, but not in others"),
        (
            named_like_a_parameter,
            r"calls tap\('w', …\) at test_taps.py:\d+, but a parameter has this name, too",
        ),
        (
            swapped,
            r"swapped passes an array as the name of a tap at test_taps.py:\d+\n +. help: pass the name",
        ),
    ],
)
def test_taps_that_cannot_be_checked_are_refused_with_their_line(function, said):
    with pytest.raises(InputError) as caught:
        check_gradients(function, W)
    assert re.search(said, str(caught.value))


def test_a_tap_of_torch_is_checked():
    torch = pytest.importorskip("torch")

    def function(parameters):
        w = torch.tensor(parameters["w"])
        h = tap("h", torch.tanh(w))
        return float((h**2).sum()), {"w": 2.0 * h * (1.0 - h**2), "h": 2.0 * h}

    assert check_gradients(function, W).passed
