"""NaN and inf: such a loss is refused, such a gradient is wrong, and the messages say where they arise."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from build import right_gradients, spec_of
from reports import comparison, report

from gradcheck_cli import InputError, Report, check, check_gradients, load_spec
from gradcheck_cli.formats.words.verdicts import sentence
from gradcheck_cli.problem.problem import build_problem


@pytest.fixture
def gradients(tmp_path):
    """A report on right gradients of 3-5-4-2 with these entries in their place."""

    def run(**entries: tuple[tuple[int, ...], float]) -> Report:
        spec = spec_of((5, "tanh"), (4, "tanh"), (2, "sigmoid"), samples=6)
        arrays = {name: array.copy() for name, array in right_gradients(build_problem(spec)).items()}
        for name, (place, value) in entries.items():
            arrays[name.replace("__", ".")][place] = value
        np.savez(tmp_path / "g.npz", **arrays)
        given = spec.model_dump(by_alias=True, exclude_unset=True) | {
            "gradients": {"file": tmp_path / "g.npz"}
        }
        return check(type(spec).model_validate(given))

    return run


def why(report: Report) -> str:
    return report.diagnosis.answers[0].causes[0].sentence


def test_the_first_entry_is_named_not_the_one_that_is_largest(gradients):
    found = gradients(hidden2__weight=(([2, 3], [1, 4]), np.array([np.nan, -np.inf])))
    assert "the first that is not finite, hidden2.weight[2, 1], is nan" in sentence(found)
    assert why(found) == (
        "The gradient of hidden2.weight has NaN or inf in 2 of 20 entries, the first at [2, 1]; "
        "it arises in layer hidden2, because the gradients of the layers above are finite."
    )


def test_of_several_layers_the_topmost_is_where_it_arises(gradients):
    found = gradients(hidden1__bias=((3,), np.nan), output__weight=((0, 2), np.nan))
    assert "the first that is not finite, output.weight[0, 2], is nan" in sentence(found)
    first, second = why(found).split(". The")
    assert first.endswith(
        "NaN in 1 of 8 entries, the first at [0, 2]; it arises in layer output or in the loss"
    )
    assert second == " gradient of hidden1.bias has NaN in 1 of 5 entries, the first at [3]."


def test_a_wrong_entry_that_is_finite_is_still_the_worst():
    finite = comparison("w", [1.0, 3.0], [1.0, 2.0])
    assert "the worst, w[1], is 3" in sentence(report(finite))


CODE = """
import numpy as np

parameters = {"w": np.array([1.0, -2.0, 3.0])}

def scaled(w):
    return BAD

def f(p):
    loss = scaled(p["w"])
    return loss, {"w": p["w"]}
"""


def refusal(tmp_path, bad: str) -> tuple[str, str | None]:
    (tmp_path / "net.py").write_text(CODE.replace("BAD", bad), encoding="utf-8")
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        check(load_spec(tmp_path / "net.yaml"))
    (complaint,) = caught.value.complaints
    return complaint.message, complaint.help


@pytest.mark.parametrize(
    ("bad", "loss", "reason"),
    [
        ("np.log(w).sum()", "nan", "invalid value encountered in log"),
        ("np.exp(400 * w).sum()", "inf", "overflow encountered in exp"),
        ("(1 / (w - w)).sum()", "inf", "divide by zero encountered in divide"),
    ],
)
def test_a_loss_that_is_not_finite_is_told_with_the_line_that_it_arises_at(bad, loss, reason, tmp_path):
    message, help = refusal(tmp_path, bad)
    assert message == f"f of net.py returns {loss} for the loss; a finite number is needed"
    assert help == f"the first number that is not finite arises at net.py:7: {reason}"


def test_where_no_line_is_known_none_is_named(tmp_path):
    message, help = refusal(tmp_path, "np.nan")
    assert message == "f of net.py returns nan for the loss; a finite number is needed"
    assert help is None


def test_a_loss_term_is_named():
    with pytest.raises(
        InputError, match="returns nan for loss term 2 of 3; a finite number is needed"
    ) as caught:
        check_gradients(lambda p: (np.sqrt(p), np.ones(3)), np.array([1.0, 4.0, -1.0]))
    (complaint,) = caught.value.complaints
    assert complaint.help.startswith("the first number that is not finite arises at test_not_finite.py:")


TORCH = """
import torch
from torch import nn

class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()

def build():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    return MODULE

data = torch.ones(5, 3).numpy(), torch.ones(5, 2).numpy()
"""


@pytest.mark.parametrize(
    ("module", "help"),
    [
        (
            "nn.Sequential(first, Root(), second), nn.MSELoss()",
            "the first output that is not finite is that of '1' (Root)",
        ),
        (
            "nn.Sequential(first, second), lambda a, y: (a - 100).log().sum()",
            "the output of every layer is finite, so the inf or NaN arises in the loss",
        ),
        ("first, lambda a, y: (a - 100).log().sum()", None),
    ],
)
def test_torch_names_the_layer_whose_output_is_not_finite(module, help, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(dedent(TORCH).replace("MODULE", module), encoding="utf-8")
    (tmp_path / "net.yaml").write_text("gradients: {torch: net.py:build}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        check(load_spec(tmp_path / "net.yaml"))
    (complaint,) = caught.value.complaints
    assert complaint.message == "build of net.py returns nan for the loss; a finite number is needed"
    assert complaint.help == help
