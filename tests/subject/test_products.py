"""Products with a transposed factor or a missing conjugate are put into words, and other mistakes are not."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import WrongGradientError, check_gradients, check_layer, check_torch
from gradcheck_cli.diagnose.wrong_functions import MISSING_CONJUGATE, TRANSPOSED_FACTOR

RNG = np.random.default_rng(1011)
SQUARE = {"x": RNG.normal(size=(3, 3)), "w": RNG.normal(size=(3, 3))}
MORE = {"x": RNG.normal(size=(5, 3)), "w": RNG.normal(size=(3, 3))}


def diagnosed(check, *given):
    """Return the kinds and the sentences of the first answer."""
    with pytest.raises(WrongGradientError) as caught:
        check(*given)
    diagnosis = caught.value.report.diagnosis
    causes = diagnosis.answers[0].causes if diagnosis.answers else ()
    return {cause.kind for cause in causes}, " ".join(cause.sentence for cause in causes)


def affine(backward):
    """Return a layer that is not a known one, since it adds 1."""
    return lambda x, w: (x @ w.T + 1.0, (x, w)), lambda dout, cache: backward(dout, *cache)


PRODUCTS = {
    "U @ w.T, where U @ w is right": (lambda d, x, w: (d @ w.T, d.T @ x), MORE),
    "x.T @ U, where U @ x is right": (lambda d, x, w: (d @ w, x.T @ d.T), SQUARE),
    "U.T @ x, where U @ x is right": (lambda d, x, w: (d @ w, d @ x), SQUARE),
}


@pytest.mark.parametrize("words", PRODUCTS)
def test_the_wrong_product_and_the_right_one_are_told(words):
    backward, inputs = PRODUCTS[words]
    kinds, sentence = diagnosed(check_layer, *affine(backward), inputs)
    assert kinds == {TRANSPOSED_FACTOR.kind}
    assert words in sentence


OTHERS = {
    "scaled rows": lambda g: g * np.arange(1, len(g) + 1)[:, None],
    "rolled": lambda g: np.roll(g, 1, 0),
    "triangle": np.tril,
    "squared": np.square,
    "transposed": np.transpose,
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("w", ["w", "w + w.T", "w - w.T", "np.diag(np.diag(w))", "np.linalg.qr(w)[0]"])
def test_other_mistakes_are_not_called_a_transposed_factor(other, w):
    inputs = SQUARE | {"w": eval(w, {"np": np, "w": SQUARE["w"]})}

    def backward(d, x, w):
        return OTHERS[other](d @ w), d.T @ x

    assert TRANSPOSED_FACTOR.kind not in diagnosed(check_layer, *affine(backward), inputs)[0]


def test_the_loss_may_be_any_function_of_the_product():
    def function(p):
        a = np.tanh(p["x"] @ p["w"].T)
        delta = 2.0 * a * (1.0 - a * a)
        return (a * a).sum(), {"x": delta @ p["w"].T, "w": delta.T @ p["x"]}

    assert diagnosed(check_gradients, function, MORE)[0] == {TRANSPOSED_FACTOR.kind}


def test_a_singular_factor_explains_nothing():
    inputs = MORE | {"w": np.outer(np.arange(1.0, 4.0), np.ones(3))}
    assert not diagnosed(check_layer, *affine(lambda d, x, w: (d @ w.T, d.T @ x)), inputs)[0]


# --- complex ------------------------------------------------------------------------------------------------


def exp_with(change):
    """Return exp of complex numbers, and an argument. `change` takes the right gradient and a wrong one."""
    torch = pytest.importorskip("torch")

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.exp()

        @staticmethod
        def backward(ctx, upstream):
            (x,) = ctx.saved_tensors
            return change(upstream * x.exp().conj(), upstream * x.exp())

    return Exp.apply, {"x": torch.tensor(RNG.normal(size=6) + 1j * RNG.uniform(0.5, 1.0, 6))}


def test_a_conjugate_that_is_left_out_is_named():
    kinds, sentence = diagnosed(check_torch, *exp_with(lambda right, wrong: wrong))
    assert kinds == {MISSING_CONJUGATE.kind}
    assert "each entry of x's gradient has the right absolute value, but a wrong phase" in sentence


def test_the_conjugate_of_the_whole_gradient_is_named():
    kinds, sentence = diagnosed(check_torch, *exp_with(lambda right, wrong: right.conj()))
    assert kinds == {MISSING_CONJUGATE.kind}
    assert "the gradient of x is the conjugate of the right one" in sentence


PHASES = {
    "i": lambda right, _: 1j * right,
    "negative": lambda right, _: -right,
    "signs": lambda right, _: right * (2.0 * (right.real > 0) - 1.0),
    "parts": lambda right, _: 1j * right.conj(),
    "absolute value": lambda right, _: right.abs() + 0j,
    "real part": lambda right, _: right.real + 0j,
}


@pytest.mark.parametrize("change", PHASES)
def test_another_mistake_in_a_complex_gradient_is_no_missing_conjugate(change):
    assert MISSING_CONJUGATE.kind not in diagnosed(check_torch, *exp_with(PHASES[change]))[0]
