"""What arrays tell by themselves, of code whose network nobody described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnose.networks import kinds

from gradcheck_cli.compare import compare
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.numerical.estimate import Estimate

RNG = np.random.default_rng(1)
RIGHT = {
    "w": RNG.normal(size=(4, 4)),
    "v": RNG.normal(size=(3, 5)),
    "b": RNG.normal(size=4),
    "c": RNG.normal(size=4),
}


def said(samples: int | None = None, **changed: Any) -> Diagnosis:
    found = {**RIGHT, **changed}
    comparisons = [
        compare(name, found[name], Estimate(value, np.full(value.shape, 1e-11)), 1e-15 * np.abs(value), 1e-6)
        for name, value in RIGHT.items()
    ]
    return diagnose(comparisons, None, samples=samples)


def everything(factor: float) -> dict[str, np.ndarray]:
    return {name: factor * value for name, value in RIGHT.items()}


@pytest.mark.parametrize(
    ("changed", "samples", "kind"),
    [
        (everything(2.0), None, "factor 2"),
        (everything(-1.0), None, "sign"),
        (everything(20.0), 20, "missing 1/N"),
        (everything(3.0), None, "accumulated"),
        (everything(0.3), None, "factor"),
        ({"b": RIGHT["b"] / 20}, 20, "1/N twice"),
        ({"w": RIGHT["w"].T}, None, "transposed gradient"),
        ({"w": 0.0 * RIGHT["w"]}, None, "gradient zero"),
        ({"b": RIGHT["c"], "c": RIGHT["b"]}, None, "tensors swapped"),
        ({"v": RIGHT["v"][::-1]}, None, "rows permuted"),
        ({"v": np.abs(RIGHT["v"])}, None, "absolute value"),
        ({"v": RIGHT["v"] + 0.1 * np.eye(3, 5, k=4)}, None, "single entries"),
    ],
)  # fmt: skip
def test_what_arrays_show_is_named_with_fitting_modesty(changed, samples, kind):
    found = said(samples, **changed)
    assert kinds(found)[0] == (kind,)
    assert found.basis == "arrays"
    assert found.layers == ()


def test_what_they_do_not_show_is_not_guessed():
    found = said(v=RIGHT["v"] * np.cos(RIGHT["v"]))
    assert found.answers == ()
    assert found.observations[0].startswith("w, b and c are right")


def test_numbers_that_are_not_finite_are_told():
    assert kinds(said(b=np.array([np.nan, *RIGHT["b"][1:]]))) == [("overflow",)]


def test_entries_that_were_not_measured_are_not_spoken_of():
    unknown = Estimate(np.full((4, 4), np.nan), np.full((4, 4), np.inf))
    comparisons = [
        compare("w", 2 * RIGHT["w"], unknown, np.zeros((4, 4)), 1e-6),
        compare("b", 2 * RIGHT["b"], Estimate(RIGHT["b"], np.full(4, 1e-12)), np.zeros(4), 1e-6),
    ]
    found = diagnose(comparisons, None)
    assert all("w" not in cause.where for answer in found.answers for cause in answer.causes)


def test_infinity_beside_a_factor_is_no_crash_and_no_factor_of_it():
    w = 2.0 * RIGHT["w"]
    w[0, 0] = np.inf
    found = said(w=w, b=2.0 * RIGHT["b"])
    assert all("nan" not in text and "inf " not in text for text in found.observations)
