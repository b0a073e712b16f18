"""How forward and backward functions may be written, and what is said of those that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import InputError, WrongGradientError, check_layer

RNG = np.random.default_rng(2)
X, W, B = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2)), RNG.normal(size=2)
INPUTS = {"x": X, "w": W, "b": B}


def affine(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return dout @ np.asarray(w).T, x.T @ dout, dout.sum(axis=0)


def names(report):
    return [c.name for c in report.comparisons]


# --- the number of outputs, and the cache ------------------------------------------------------------------


def test_the_cache_may_consist_of_several_results():
    def forward(x, w):
        z = x @ w
        return np.tanh(z), x, w, np.tanh(z)

    def backward(dout, x, w, mask):
        dz = dout * (1.0 - mask**2)
        return dz @ w.T, x.T @ dz

    assert check_layer(forward, backward, {"x": X, "w": W}).passed


def test_names_tell_two_outputs_and_a_cache_from_a_cache_in_two_parts():
    def two(x):
        return np.sin(x), np.cos(x), x

    assert check_layer(two, lambda ds, dc, cache: ds * np.cos(cache) - dc * np.sin(cache), X).passed
    assert check_layer(two, lambda dout, mask, x: dout * np.cos(x), X).passed


def pair(x):
    return np.sin(x), np.cos(x)


@pytest.mark.parametrize(
    ("backward", "taken"),
    [(lambda dh, dc: dh - dc, "takes dc"), (lambda a, b, c: a, "takes b")],
    ids=["the last", "one in between"],
)
def test_a_result_that_may_be_an_output_or_the_cache_is_asked_about(backward, taken):
    forward = pair if taken == "takes dc" else lambda x: (*pair(x), x)
    with pytest.raises(InputError) as caught:
        check_layer(forward, backward, X)
    assert f"{taken}, which may be either an upstream gradient or part of the cache" in str(caught.value)
    assert "set 'outputs' to the number of forward's outputs" in str(caught.value)


def test_outputs_settles_what_the_names_leave_open():
    assert check_layer(pair, lambda dh, dc: dh * pair(X)[1] - dc * pair(X)[0], X, outputs=2).passed
    assert check_layer(pair, lambda dh, dc: dh * dc, X, outputs=1).passed


@pytest.mark.parametrize("outputs", [0, 3, "1"])
def test_an_impossible_number_of_outputs_is_refused(outputs):
    with pytest.raises(InputError, match=f"affine returns 2 results, but 'outputs' is {outputs!r}"):
        check_layer(affine, affine_backward, INPUTS, outputs=outputs)


# --- the parameters of the functions -----------------------------------------------------------------------


def test_a_parameter_of_backward_with_a_default_is_left_alone():
    def backward(dout, cache, lr=0.1, verbose=False):
        return affine_backward(dout, cache)

    assert check_layer(affine, backward, INPUTS).passed


def test_a_parameter_with_a_default_gets_the_argument_of_forward_with_its_name():
    def forward(x, w, stride=1):
        return stride * (x @ w)

    def backward(dout, x, w, stride=1):
        return stride * dout @ w.T, stride * x.T @ dout

    assert check_layer(forward, backward, {"x": X, "w": W, "stride": 3}).passed


def test_gradients_come_in_the_order_of_forward_whatever_the_order_of_the_inputs():
    square = {"w": RNG.normal(size=(3, 3)), "x": RNG.normal(size=(3, 3))}

    def backward(dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout

    report = check_layer(lambda x, w: (x @ w, (x, w)), backward, square)
    assert report.passed
    assert names(report) == ["x", "w"]


# --- what has a gradient -----------------------------------------------------------------------------------


def leaky(x, slope):
    return np.where(x > 0.0, x, slope * x), (x, slope)


def leaky_backward(dout, cache, factor=1.0):
    x, slope = cache
    return dout * np.where(x > 0.0, 1.0, slope), factor * (dout * np.minimum(x, 0.0)).sum()


def test_a_python_float_is_checked_if_backward_returns_its_gradient():
    assert names(check_layer(leaky, leaky_backward, {"x": X, "slope": 0.1})) == ["x", "slope"]
    with pytest.raises(WrongGradientError):
        check_layer(leaky, lambda dout, cache: leaky_backward(dout, cache, 1.01), {"x": X, "slope": 0.1})


def test_a_python_float_without_a_gradient_stays_an_option():
    report = check_layer(leaky, lambda dout, cache: leaky_backward(dout, cache)[0], {"x": X, "slope": 0.1})
    assert names(report) == ["x"]
    assert not report.unusual


@pytest.mark.parametrize("labels", [np.zeros(2), None], ids=["zero", "None"])
def test_a_gradient_of_labels_may_be_zero_or_none(labels):
    def forward(x, y):
        return x[[0, 1], y], (x, y)

    def backward(dout, cache):
        x, y = cache
        dx = np.zeros_like(x)
        dx[[0, 1], y] = dout
        return {"dx": dx, "dy": labels}

    assert names(check_layer(forward, backward, {"x": X, "y": np.array([2, 1])})) == ["x"]


def returns(*gradients):
    return lambda dout, cache: gradients[0] if len(gradients) == 1 else gradients


@pytest.mark.parametrize(
    ("forward", "backward", "inputs", "said"),
    [
        (affine, affine_backward, {**INPUTS, "x": np.ones((3, 4), int)}, "x, but x is numbers of type int64"),
        (affine, affine_backward, {**INPUTS, "w": W.tolist()}, "returns a gradient for w, but w is a list"),
        (affine, affine_backward, {"x": X.tolist()}, "affine cannot be called with these inputs: missing"),
        (affine, affine_backward, {**INPUTS, "z": X}, "it takes x, w, b; the inputs are x, w, b, z"),
        (affine, affine_backward, {"w": W, "z": X, "b": B}, "inputs: it has no parameter z"),
        (affine, affine_backward, (a for a in INPUTS.values()), "inputs is a generator; a dict of arguments"),
        (affine, affine_backward, None, "inputs is None; a dict of arguments by name"),
        (affine, returns(None), INPUTS, "returns None, but forward takes 3 arrays of floats: x, w, b"),
        (affine, returns(iter("ab")), INPUTS, "returns a str_ascii_iterator, but forward takes 3 arrays"),
        (lambda x: None, returns(X), X, "returns None\n      = help: return out, or (out, cache)"),
        (lambda x: {"out": x}, returns(X), X, "help: return several outputs as a tuple"),
        (lambda x: (x, x), lambda dout, *, cache: dout, X, "does not fit"),
        (lambda x: (x, x, x), lambda dout, cache: dout, X, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_message(forward, backward, inputs, said):
    with pytest.raises(InputError) as caught:
        check_layer(forward, backward, inputs)
    assert said in str(caught.value)


# --- state -------------------------------------------------------------------------------------------------


def test_a_cache_that_keeps_values_of_the_first_call_is_wrong():
    kept = {}

    def forward(x):
        kept.setdefault("x", x)
        return np.sin(x)

    with pytest.raises(WrongGradientError):
        check_layer(forward, lambda dout: dout * np.cos(kept["x"]), X)


@pytest.mark.parametrize("said", ["seems to accumulate", "returns different gradients"])
def test_backward_is_named_if_its_gradients_change_from_call_to_call(said):
    total, rng = np.zeros_like(X), np.random.default_rng(0)

    def unsteady(dout, cache):
        total[...] += dout
        return total if said.startswith("seems") else dout * rng.random(X.shape)

    with pytest.raises(InputError, match=f"unsteady {said}"):
        check_layer(lambda x: (x, x), unsteady, X)


def test_a_gradient_that_is_not_finite_is_not_called_nonlinear():
    with pytest.raises(WrongGradientError) as caught, np.errstate(invalid="ignore"):
        check_layer(lambda x: 2.0 * x, lambda dout, x: dout * np.log(x), X)
    assert "linear" not in str(caught.value)


def test_a_spec_may_say_how_many_outputs_there_are(check):
    code = """
import numpy as np
inputs = {"x": np.array([0.3, -1.0])}
def cell_forward(x):
    global kept
    kept = x
    return np.sin(x), np.cos(x)
def cell_backward(dh, dc):
    return dh * np.cos(kept) - dc * np.sin(kept)
"""
    given = "gradients: {python: cell.py, forward: cell_forward%s}"
    assert check(given % ", outputs: 2", code).passed
    with pytest.raises(InputError, match="set 'outputs' to the number of forward's outputs: 1 or 2"):
        check(given % "", code)


def test_a_file_may_define_the_inputs_of_each_layer(check):
    code = """
import numpy as np
inputs = {"x": np.array([0.3, -1.0])}
def sin_forward(x):
    return np.sin(x), x
def sin_backward(dout, x):
    return dout * np.cos(x)
scale_inputs = {"x": np.array([0.3, -1.0]), "factor": np.array(3.0)}
def scale_forward(x, factor):
    return x * factor
def scale_backward(dout, x, factor):
    return dout * factor, (dout * x).sum()
def twice(x):
    return 2.0 * x
def back(dout):
    return 2.0 * dout
"""
    given = "gradients: {python: cell.py, forward: %s_forward}"
    assert names(check("gradients: {python: cell.py, forward: twice, backward: back}", code)) == ["x"]
    assert names(check(given % "sin", code)) == ["x"]
    assert names(check(given % "scale", code)) == ["x", "factor"]


@pytest.fixture
def check(tmp_path):
    from gradcheck_cli import check, load_spec

    def run(spec, code):
        (tmp_path / "cell.py").write_text(code)
        (tmp_path / "cell.yaml").write_text(spec)
        return check(load_spec(tmp_path / "cell.yaml"))

    return run
