"""Taps: gradients of intermediates are checked, and wrong ones show where the fault lies."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gradcheck_cli import InputError, WrongGradientError, check_gradients, check_layer, tap

OPERATIONS = {
    "tanh": (np.tanh, lambda z, a: 1.0 - a**2),
    "sigmoid": (lambda z: 1.0 / (1.0 + np.exp(-z)), lambda z, a: a * (1.0 - a)),
    "sin": (np.sin, lambda z, a: np.cos(z)),
    "square": (lambda z: 0.5 * z**2 + z, lambda z, a: z + 1.0),
}
"""Each operation: its value and its derivative."""


class Chain:
    """Operations with a weight each, one after the other, a skip connection, and a fault in backward."""

    def __init__(self, seed, depth=6):
        rng = np.random.default_rng(seed)
        self.kinds = [list(OPERATIONS)[i] for i in rng.integers(len(OPERATIONS), size=depth)]
        self.skip = int(rng.integers(1, depth - 1))  # this operation adds its input to its output
        self.x = rng.normal(size=(3, 4))
        self.parameters = {f"w{i}": rng.normal(0.0, 0.6, (4, 4)) for i in range(depth)}
        self.tapped = {i for i in range(depth) if rng.random() < 0.8}
        self.wrong = int(rng.integers(depth))
        self.factor = float(rng.choice([-1.0, 0.5, 1.01, 2.0]))

    def __call__(self, parameters):
        values, inputs, value = [], [], self.x
        for i, kind in enumerate(self.kinds):
            inputs.append(value)
            z = value @ parameters[f"w{i}"]
            a = OPERATIONS[kind][0](z)
            values.append((z, a))
            value = a + value if i == self.skip else a
            value = tap(f"t{i}", value) if i in self.tapped else value
        gradients, delta = {}, np.cos(value)
        for i in reversed(range(len(self.kinds))):
            if i in self.tapped:
                gradients[f"t{i}"] = delta
            dz = delta * OPERATIONS[self.kinds[i]][1](*values[i])
            gradients[f"w{i}"] = inputs[i].T @ dz
            delta = dz @ parameters[f"w{i}"].T * (self.factor if i == self.wrong else 1.0) + delta * (
                i == self.skip
            )
        return np.sin(value).sum(axis=1), gradients


SENTENCE = re.compile(
    r"((?:∂L/∂t\d+ \([\w.]+:\d+\)(?: and )?)*)(?: (?:is|are) right, but )?"
    r"∂L/∂(\w+)(?: \([\w.]+:\d+\))? is wrong"
)


def places(report):
    """Return each place: the names of the taps above the fault, and the tensor below it."""
    return [(re.findall(r"t\d+", above), below) for above, below in map(split, report.diagnosis.places)]


def split(sentence):
    return SENTENCE.match(sentence).groups()


@pytest.mark.parametrize("seed", range(12))
def test_every_place_that_is_named_holds_the_fault(seed):
    """`benchmarks/` has more seeds; a fault in the last backward step, ∂L/∂x, is not part of any gradient."""
    chain = Chain(seed)
    if chain.wrong == 0:
        assert check_gradients(chain, chain.parameters).passed
        return
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(chain, chain.parameters)
    found = places(caught.value.report)
    assert found
    for above, below in found:
        assert int(below[1:]) < chain.wrong
        assert all(int(name[1:]) >= chain.wrong for name in above)


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


def of_integers(parameters):
    tap("h", np.arange(3))
    return simple(parameters)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (twice, r"twice passes tap 'h' twice, at test_taps.py:\d+ and at test_taps.py:\d+"),
        (
            unused,
            r"unused does not use what tap\('h', …\) returns at test_taps.py:\d+: the loss does not",
        ),
        (
            of_integers,
            r"of_integers taps numbers of type int64 as 'h' at test_taps.py:\d+; an array of floats",
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
