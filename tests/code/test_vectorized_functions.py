"""Python functions that take many points at once."""

from __future__ import annotations

import numpy as np
import pytest
from function_source import POINT, RIGHT, complaints_about, refused

from gradcheck_cli.code.points import Change, evaluate
from gradcheck_cli.code.python_source import read

VECTORIZED = """
    import numpy as np

    def f(p, x, y):
        z = x @ np.swapaxes(p["w"], 1, 2) + p["b"][:, None] - np.eye(2)[y]
        loss = LOSS
        return loss, {"w": np.swapaxes(z, 1, 2) @ x, "b": z.sum(axis=1)}
"""


@pytest.fixture
def vectorized(written):
    def write(loss, text=VECTORIZED):
        return written(text.replace("LOSS", loss)).model_copy(update={"vectorized": True})

    return write


def test_a_vectorized_function_is_the_same_at_one_point_and_at_many(written, vectorized):
    one, many = read(written(RIGHT), POINT), read(vectorized("0.5 * (z * z).sum(axis=2)"), POINT)
    assert (one.vectorized, many.vectorized) == (False, True)
    points = [{n: array + 0.25 * k for n, array in one.parameters.items()} for k in range(3)]
    np.testing.assert_allclose(many.losses_at(points), one.losses_at(points), rtol=1e-14)
    np.testing.assert_allclose(many.losses(points[1]), one.losses(points[1]), rtol=1e-14)
    for name, gradient in many.gradients(points[2]).items():
        np.testing.assert_allclose(gradient, one.gradients(points[2])[name], rtol=1e-14)


def test_its_losses_may_be_totals(vectorized):
    function = read(vectorized("0.5 * (z * z).sum(axis=(1, 2))"), POINT)
    assert function.losses_at([function.parameters] * 5).shape == (5, 1)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("0.5 * (z * z).sum()", "returns a loss of shape [] for a stack of 2 points"),
        ("0.5 * (z * z).sum(axis=2)[:1]", "returns a loss of shape [1, 2] for a stack of 2 points"),
        ("0.5 * (z * z).sum(axis=(0, 2))", "returns a different result for a point in a stack"),
        ("0.5 * (z * z)[:, :, :1]", "returns an array of shape [2, 1] as its loss"),
        (
            "0.5 * ((z - z.mean(axis=0)) ** 2).sum(axis=2)",
            "returns a different result for a point in a stack",
        ),
    ],
)
def test_losses_that_are_not_those_of_a_stack_are_refused(vectorized, loss, message):
    assert message in refused(vectorized(loss))


def test_gradients_that_are_not_those_of_a_stack_are_refused(vectorized):
    text = VECTORIZED.replace("z.sum(axis=1)}", "z.sum(axis=(0, 1))[None]}")
    assert "the gradient of 'b' of shape [1, 2] for a stack of 2 points" in refused(
        vectorized("0.5 * (z * z).sum(axis=2)", text)
    )


def test_a_function_of_one_point_that_is_called_vectorized_gets_help(written):
    source = written(RIGHT).model_copy(update={"vectorized": True})
    (complaint,) = complaints_about(source)
    assert "a stack of 2 points" in complaint.message or "raises" in complaint.message


def test_stacks_are_of_few_sizes(vectorized):
    """A compiler compiles once for every size."""
    sizes = []
    function = read(vectorized("0.5 * (z * z).sum(axis=2)"), POINT)

    class Watched:
        vectorized = True
        parameters = function.parameters

        def losses_at(self, points):
            sizes.append(len(points))
            return function.losses_at(points)

    for count in range(1, 17):
        changes = [Change("b", np.array([0]), np.array([k / 8])) for k in range(count)]
        losses = evaluate(Watched(), function.parameters, changes)
        assert len(losses) == count
        assert len(np.unique(losses, axis=0)) == count
    assert set(sizes) == {1, 2, 4, 8, 16}
