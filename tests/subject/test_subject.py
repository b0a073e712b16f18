from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from paths import ROOT

from gradcheck_cli import check, load_spec
from gradcheck_cli.subject.load import subject_of, tensors_of

SPECS = ["configs/output_layer.yaml", "configs/wrong_gradient.yaml", "configs/code/softmax_regression.yaml"]


@pytest.fixture(params=SPECS, ids=lambda path: path.split("/")[-1].removesuffix(".yaml"))
def spec(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_spec(request.param)


def test_no_field_is_for_one_kind_alone(spec):
    subject = subject_of(spec)
    assert [field.name for field in fields(subject) if getattr(subject, field.name) is None] == []


def test_a_subject_is_frozen(spec):
    with pytest.raises(FrozenInstanceError):
        subject_of(spec).said = None


def test_a_check_is_the_check_of_its_subject(spec):
    subject, report = subject_of(spec), check(spec)
    found = subject.check(spec.check)
    assert (found.verdict, found.network, found.loss) == (report.verdict, report.network, report.loss)
    for one, other in zip(found.comparisons, report.comparisons, strict=True):
        np.testing.assert_array_equal(one.numerical, other.numerical)
    assert found.diagnosis == report.diagnosis


def test_a_report_says_what_its_subject_says(spec):
    subject = subject_of(spec)
    report, said = subject.check(spec.check), subject.said
    assert report.network == said.described
    assert (report.loss_name, report.loss, report.weighted) == (said.loss_name, said.loss, said.weighted)
    assert (report.unexercised, report.unusual) == (said.unexercised, said.unusual)
    assert report.source == subject.analytic.origin


def test_the_tensors_of_a_spec_are_those_of_its_subject(spec):
    assert tensors_of(spec) == tuple(subject_of(spec).analytic.values)
