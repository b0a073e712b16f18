"""The command line accepts exactly the settings that a spec accepts."""

from __future__ import annotations

import math

import click
import pytest
from pydantic import ValidationError

from gradcheck_cli.cli.check import check
from gradcheck_cli.spec.check import CheckSpec

SETTINGS = {option.name: option for option in check.params if option.name in CheckSpec.model_fields}
VALUED = [name for name, option in SETTINGS.items() if not option.is_flag]
ENDS = (0, 1, 1024, 2**24, 2**32)
VALUES = [
    *(end + step for end in ENDS for step in (-1, 0, 1)),
    *(1e-300, 0.5, math.nextafter(1, 0), math.nextafter(1, 2), math.nan, math.inf, -math.inf),
    *("auto", "central", "units", "literal", "nonsense"),
]


def in_a_spec(name: str, value: object) -> bool:
    try:
        CheckSpec.model_validate({name: value})
    except ValidationError:
        return False
    return True


def on_the_command_line(name: str, value: object) -> bool:
    try:
        SETTINGS[name].type_cast_value(click.Context(check), str(value))
    except click.BadParameter:
        return False
    return True


def test_the_settings_with_values_are_these():
    expected = ["atol", "differences", "jobs", "memory", "order", "rtol", "scheme", "seed", "step"]
    assert sorted(VALUED) == expected


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", VALUED)
def test_a_value_is_accepted_in_both_places_or_in_neither(name, value):
    assert on_the_command_line(name, value) is in_a_spec(name, value)


@pytest.mark.parametrize("name", VALUED)
def test_some_values_are_accepted_and_some_refused(name):
    assert {in_a_spec(name, value) for value in VALUES} == {True, False}


@pytest.mark.parametrize(("option", "kind"), [("--rtol", "a number"), ("--seed", "a whole number")])
def test_a_word_in_place_of_a_number_is_refused_in_plain_words(option, kind):
    with pytest.raises(click.BadParameter, match=f"'abc' is not {kind}"):
        check.make_context("check", [option, "abc", "net.yaml"])
