"""Torch modules that cannot be checked are refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from module_source import DATA, LINEAR, WHERE, X, Y, refused

from gradcheck_cli.code import torch_module
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.torch_module import read
from gradcheck_cli.errors import InputError

torch = pytest.importorskip("torch")


def test_missing_torch_is_reported(built, monkeypatch):
    def import_module(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(torch_module, "import_module", import_module)
    with pytest.raises(InputError) as caught:
        read(built(LINEAR), DATA)
    (complaint,) = caught.value.complaints
    assert complaint.message == "torch cannot be imported: No module named 'torch'"
    assert complaint.help == "pip install torch"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("None", "returns None; expected (module, loss) or "),
        ("nn.Linear(3, 2),", "returns 1 values; expected (module, loss) or "),
        ("nn.LSTM(3, 2), None", "returns None as the loss; "),
        ("nn.Linear(3, 2), 1.0", "returns a float as the loss; "),
        ("(lambda x: x), cross_entropy", "returns a function for a module; "),
        ("abs, cross_entropy, [1]", "returns a builtin_function_or_method and a list; "),
        ("None, cross_entropy, {}", "returns None and a dict; "),
        (
            "abs, cross_entropy, {'w': 2 * torch.ones(2, requires_grad=True)}",
            "returns tensors that were comp",
        ),
        ("nn.ReLU(), cross_entropy", "returns nothing that requires a gradient"),
        ("nn.Linear(3, 2), lambda a, y: 1.0", "returns a float as its loss; a tensor is needed"),
        ("nn.Linear(3, 2), lambda a, y: a", "returns a loss of shape [5, 2]; "),
        (
            "nn.Linear(3, 2), lambda a, y: (a * 1j).sum()",
            "returns a loss in complex64; a real loss is needed",
        ),
        ("nn.Linear(4, 2), cross_entropy", "raises RuntimeError: mat1 and mat2 shapes"),
        ("1 / 0", "raises ZeroDivisionError at net.py:9: "),
        ("sys.exit(3)", "calls sys.exit(3) at net.py:9"),
        ("nn.Linear(3, 2), lambda a, y: a.sum() * float('nan')", "returns nan for the loss; "),
    ],
)
def test_what_cannot_be_checked_is_refused(built, build, message):
    assert refused(built(f"\ndef build(): return {build}")).startswith(f"build of net.py {message}")


SQUARE = """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * x
    @staticmethod
    def backward(ctx, g): return g


class Net(nn.Module):
    def forward(self, x): return x


mine = Net()
"""


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("build", "message", "help"),
    [
        ("Square", "returns the class Square; ", '(Square.apply, {"x": x})'),
        ("Square.apply", "returns a method; ", '(Square.apply, {"x": x})'),
        ("Square(), {'x': torch.ones(2)}", "returns a Square for a function; ", '(Square.apply, {"x": x})'),
        ("Net", "returns the class Net; ", "return an object of the class: Net(…)"),
        ("Net, {'x': torch.ones(2)}", "returns the class Net for a function; ", "Net(…)"),
        ("abs", "returns a builtin_function_or_method; ", 'such as (function, {"x": x})'),
        ("nn.Linear(3, 2).state_dict()", "returns an OrderedDict; ", "a dict of parameters"),
        ("torch.ones(2)", "returns a Tensor; ", "a tensor has no forward pass"),
        ("None", "returns None; ", "end build() with return module"),
        ("nn.Linear(3, 2), 'mse'", "returns a str as the loss; ", "torch.nn.functional.mse_loss"),
        ("nn.Linear(3, 2), torch.ones(())", "returns a Tensor as the loss; ", "not its value"),
        (
            "nn.Linear(3, 2), torch.optim.SGD([torch.ones(1)])",
            "returns a SGD as the loss; ",
            "leave the optimizer out",
        ),
        (
            "nn.MSELoss(), nn.Linear(3, 2)",
            "returns a MSELoss without parameters first, and then a Linear with parameters",
            "return (module, loss), in this order",
        ),
    ],
)
def test_what_is_no_module_is_refused_with_what_to_return(built, build, message, help):
    with pytest.raises(InputError) as caught:
        read(built(f"{SQUARE}\ndef build(): return {build}"), DATA)
    (complaint,) = caught.value.complaints
    assert complaint.message.startswith(f"build of net.py {message}")
    assert help in complaint.help


def test_a_module_in_place_of_the_function_that_builds_it_is_refused(built):
    assert "is a module; a function that returns it is needed" in refused(built(f"{SQUARE}\nbuild = mine"))


def test_names_and_shapes_of_given_parameters_must_be_the_modules(built):
    with pytest.raises(InputError) as caught:
        read(built(LINEAR), Inputs({"weight": np.ones((3, 2)), "bais": np.ones(2)}, X, Y))
    assert [complaint.message for complaint in caught.value.complaints] == [
        "there is no parameter for 'bias', whose shape is [2]",
        "the parameter for 'weight' has shape [3, 2], not [2, 3]: it is transposed",
        "'bais' is not a parameter",
    ]
    assert {complaint.where for complaint in caught.value.complaints} == {WHERE}


def test_active_dropout_is_refused(built):
    text = (
        "def build(): return nn.Sequential(nn.Linear(3, 20), nn.Dropout(), nn.Linear(20, 2)){}, cross_entropy"
    )
    assert "returns different losses when called twice with the same arguments" in refused(
        built(text.format(""))
    )
    assert read(built(text.format(".eval()")), DATA)


def test_a_forward_pass_that_needs_float32_is_refused(built):
    text = """
        def build():
            net, fixed = nn.Linear(3, 2), torch.ones(2, 2)
            return net, lambda a, y: cross_entropy(a @ fixed, y)
        """
    message = refused(built(text))
    assert message.startswith(
        "in float64, which finite differences need, build of net.py raises RuntimeError at net.py:"
    )


@pytest.mark.parametrize(
    ("statement", "changed"), [("x.mul_(2)", "x"), ("self.weight.data.mul_(2)", "parameter 'weight'")]
)
def test_an_argument_changed_in_place_is_named(built, statement, changed):
    text = f"""
        class Net(nn.Linear):
            def forward(self, x):
                {statement}
                return super().forward(x)

        def build(): return Net(3, 2), cross_entropy
        """
    assert refused(built(text)) == f"build of net.py changes {changed} in place"


def test_a_failure_at_perturbed_parameters_says_so(built):
    text = """
        class Net(nn.Linear):
            def forward(self, x):
                assert self.bias[0] < 10
                return super().forward(x)

        def build(): return Net(3, 2), cross_entropy
        """
    function = read(built(text), DATA)
    moved = {**function.parameters, "bias": np.array([11.0, 0.0])}
    for evaluate in (function.losses, function.gradients):
        with pytest.raises(
            InputError, match=r"with slightly changed parameters, build of .* raises Assertion"
        ):
            evaluate(moved)


def test_another_number_of_terms_at_perturbed_parameters_is_refused(built):
    text = """
        net = nn.Linear(3, 2)
        def build(): return net, lambda a, y: a.sum(dim=1) if net.bias[0] < 10 else a.sum()
        """
    function = read(built(text), DATA)
    with pytest.raises(InputError, match="returns 1 loss terms, but returned 5 in an earlier call"):
        function.losses({**function.parameters, "bias": np.array([11.0, 0.0])})
