"""Arrays by name: messages name the missing, misshapen and extra ones."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.arrays.shapes import match_shapes
from gradcheck_cli.errors import InputError

HERE = ("data", "file")
EXPECTED = {"output.weight": (2, 3), "output.bias": (2,)}


def mismatches(**given):
    with pytest.raises(InputError) as caught:
        match_shapes({name: np.zeros(shape) for name, shape in given.items()}, EXPECTED, "gradient", HERE)
    assert {complaint.where for complaint in caught.value.complaints} == {HERE}
    return [(complaint.message, complaint.help) for complaint in caught.value.complaints]


def test_fitting_arrays_pass():
    assert (
        match_shapes({name: np.zeros(shape) for name, shape in EXPECTED.items()}, EXPECTED, "g", ()) is None
    )


def test_missing_misshapen_and_extra_arrays_are_all_named():
    assert mismatches(**{"output.weight": (2, 4), "output.bia": (2,), "qqq": ()}) == [
        ("there is no gradient for 'output.bias', whose shape is [2]", None),
        ("the gradient for 'output.weight' has shape [2, 4], not [2, 3]", None),
        ("'output.bia' is not a parameter", "did you mean 'output.bias'?"),
        ("'qqq' is not a parameter", "leave it out; the parameters are output.weight, output.bias"),
    ]


def test_a_transposed_shape_is_named_as_such():
    assert mismatches(**{"output.weight": (3, 2), "output.bias": (2,)}) == [
        (
            "the gradient for 'output.weight' has shape [3, 2], not [2, 3]: it is transposed",
            "weights are [out, in], as in PyTorch; use the array's .T",
        )
    ]


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
def test_a_bias_with_an_extra_axis_gets_help(shape):
    assert mismatches(**{"output.weight": (2, 3), "output.bias": shape}) == [
        (
            f"the gradient for 'output.bias' has shape {list(shape)}, not [2]",
            "a bias has one axis; use the array's .ravel()",
        )
    ]


@pytest.mark.parametrize(
    ("found", "needed", "help"),
    [
        ((5, 2), (2,), "sum it over axis 0, along which 'b' is broadcast"),
        ((5, 2), (1, 2), "sum it over axis 0, along which 'b' is broadcast"),
        ((5, 4, 2), (1, 2), "sum it over axes 0, 1, along which 'b' is broadcast"),
        ((5, 4), (), "sum it over axes 0, 1, along which 'b' is broadcast"),
        ((5, 3), (2,), None),
        ((2,), (5, 2), None),
    ],
)
def test_a_gradient_that_was_not_summed_over_a_broadcast_axis_gets_help(found, needed, help):
    with pytest.raises(InputError) as caught:
        match_shapes({"b": np.zeros(found)}, {"b": needed}, "gradient", HERE)
    assert [complaint.help for complaint in caught.value.complaints] == [help]


def test_extra_arrays_are_one_error_and_those_that_look_misspelt_are_named_first():
    assert mismatches(**EXPECTED, lr=(), epoch=(), **{"output.bais": (2,)}) == [
        ("'output.bais' is not a parameter", "did you mean 'output.bias'?"),
        ("'lr', 'epoch' are not parameters", "leave them out; the parameters are output.weight, output.bias"),
    ]


def test_the_first_of_many_extra_arrays_are_named_and_the_others_counted():
    ((message, _),) = mismatches(**EXPECTED, **{f"extra{i}": () for i in range(50)})
    assert message.startswith("'extra0', 'extra1', ")
    assert message.endswith(" and 42 more are not parameters")
