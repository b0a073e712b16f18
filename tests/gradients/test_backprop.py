"""gradcheck's own backprop: overflow in the spec's arithmetic does not count as a wrong gradient."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of

from gradcheck_cli import InputError, Verdict, check

LARGE = {"init": "normal", "scale": 1e25}
TINY = {"synthetic": "normal", "samples": 5, "scale": 1e-20}
NORMED = {"units": 6, "activation": "tanh", "batch_norm": True}

OVERFLOWING = {
    "pre-activations": (
        [(4, "relu"), (3, "relu")],
        {"parameters": LARGE},
        "pre-activations of layer 'output'",
    ),
    "the loss": ([(4, "tanh"), (3, "identity")], {"parameters": LARGE}, "the loss is not a finite number"),
    "an l2 penalty": ([(3, "tanh")], {"penalty": {"l2": 1e239}}, "the penalty is not a finite number"),
    "an l1 penalty": ([(3, "tanh")], {"penalty": {"l1": 1e239}}, "the penalty is not a finite number"),
    "a variance": ([NORMED, (3, "tanh")], {"parameters": LARGE}, "variances of layer 'hidden1'"),
    "backprop alone": (
        [(4, "identity"), (3, "identity")],
        {
            "parameters": {"init": "normal", "scale": 1e12},
            "data": TINY,
            "loss": {"name": "l1", "scale": 1e30},
        },
        "the gradient of hidden1.weight, hidden1.bias is not finite",
    ),
}


@pytest.mark.parametrize("what", OVERFLOWING)
def test_an_overflow_of_gradchecks_backprop_in_float32_is_refused_with_place_and_type(what):
    layers, rest, message = OVERFLOWING[what]
    float64 = spec_of(*layers, **rest)
    assert check(float64).verdict is not Verdict.WRONG
    with pytest.raises(InputError) as refused:
        check(float64.model_copy(update={"dtype": "float32"}))
    assert message in str(refused.value)
    assert "in float32" in str(refused.value)


def test_a_gradient_that_overflows_in_float64_is_refused_too():
    layers, rest, _ = OVERFLOWING["backprop alone"]
    larger = {
        "parameters": {"init": "normal", "scale": 1e140},
        "data": {**TINY, "scale": 1e-160},
        "loss": {"name": "l1", "scale": 1e180},
    }
    spec = spec_of(*layers, **rest | larger)
    with pytest.raises(InputError, match="own backprop overflows in float64: the gradient of hidden1"):
        check(spec)


def test_unchecked_tensors_may_overflow():
    layers, rest, _ = OVERFLOWING["backprop alone"]
    spec = spec_of(*layers, **rest, dtype="float32", check={"parameters": ["output.bias"]})
    assert check(spec).verdict is Verdict.AGREES


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_users_gradient_that_is_not_finite_is_wrong(tmp_path, number, dtype):
    layers = (4, "tanh"), (3, "tanh")
    gradients = right_gradients(problem_of(*layers, dtype=dtype))
    gradients["output.bias"][1] = number
    np.savez(tmp_path / "g.npz", **{name: value.astype(dtype) for name, value in gradients.items()})
    report = check(spec_of(*layers, dtype=dtype, gradients={"file": tmp_path / "g.npz"}))
    assert report.verdict is Verdict.WRONG
