"""The user's torch module, compared with its own forward pass in float64."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from module_source import DATA, FUNCTION, LINEAR, X, Y

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.torch_module import read
from gradcheck_cli.spec.gradients import CODE_MODELS

torch = pytest.importorskip("torch")


def test_a_torch_module_is_one_of_the_sources():
    assert CODE_MODELS["torch"].kind.reader == read.__module__


def test_parameters_are_the_named_ones_that_require_a_gradient(built):
    text = """
        def build():
            net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            net[0].bias.requires_grad_(False)
            return net, cross_entropy
        """
    function = read(built(text), DATA)
    assert list(function.parameters) == ["0.weight", "2.weight", "2.bias"]
    assert all(array.dtype == np.float64 for array in function.parameters.values())
    assert (function.origin, function.remarks) == ("torch backward of build of net.py", ())


def test_gradients_are_in_the_modules_type_and_losses_in_float64(built):
    function = read(built(LINEAR), DATA)
    gradients = function.gradients(function.parameters)
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float32)}
    x, w, b = np.float32(X).astype(np.float64), function.parameters["weight"], function.parameters["bias"]
    z = x @ w.T + b
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        function.losses(function.parameters), -np.log(p[range(5), Y]).mean(), rtol=1e-14
    )
    np.testing.assert_allclose(gradients["weight"], (p - np.eye(2)[Y]).T @ x / 5, rtol=1e-5)


def test_a_loss_per_sample_is_recognised(built):
    function = read(built("def build(): return nn.Linear(3, 2), nn.CrossEntropyLoss(reduction='none')"), DATA)
    assert function.losses(function.parameters).shape == (5,)


def test_gradients_do_not_add_up_from_call_to_call(built):
    function = read(built(LINEAR), DATA)
    first, second = (function.gradients(function.parameters)["weight"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_parameters_of_the_spec_are_copied_into_the_module(built):
    given = {"weight": np.full((2, 3), 0.1), "bias": np.array([1, 2])}
    function = read(built(LINEAR), Inputs(given, X, Y))
    np.testing.assert_array_equal(function.parameters["weight"], np.full((2, 3), np.float32(0.1)))
    np.testing.assert_array_equal(function.parameters["bias"], [1.0, 2.0])


def test_the_parameters_of_a_float64_module_are_not_rounded(built):
    given = {"weight": np.full((2, 3), 0.1), "bias": np.zeros(2)}
    function = read(built("def build(): return nn.Linear(3, 2).double(), cross_entropy"), Inputs(given, X, Y))
    np.testing.assert_array_equal(function.parameters["weight"], given["weight"])
    assert function.gradients(given)["weight"].dtype == np.float64


def test_whole_numbers_stay_whole(built):
    text = """
        def build():
            return nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 2)), cross_entropy
        """
    function = read(built(text), Inputs(None, np.array([[0, 6], [1, 2]], dtype=np.uint8), np.array([0, 1])))
    assert function.losses(function.parameters).shape == (1,)


def test_masks_stay_masks(built):
    text = "def build(): return nn.Linear(3, 1), lambda a, y: a.squeeze(1)[y].square().sum()"
    assert read(built(text), Inputs(None, X, Y.astype(bool)))


def test_without_data_the_module_is_called_without(built):
    text = """
        class Norm(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.ones(3))

            def forward(self):
                return self.w.square().sum()

        def build(): return Norm(), lambda output: output
        """
    function = read(built(text), Inputs(None, None, None))
    np.testing.assert_array_equal(function.losses(function.parameters), [3.0])


def test_data_may_be_the_modules_own(built):
    text = LINEAR + "\ndata = torch.ones(4, 3), torch.tensor([0, 1, 0, 1])"
    assert read(built(text), Inputs(None, None, None)).gradients


def test_a_loss_that_reads_the_module_sees_the_perturbed_parameters(built):
    """A penalty reads the module itself, so the module is widened in place, not a copy of it."""
    text = """
        def build():
            net = nn.Linear(3, 2)
            return net, lambda a, y: cross_entropy(a, y) + 0.5 * net.weight.square().sum()
        """
    function = read(built(text), DATA)
    moved = {**function.parameters, "weight": function.parameters["weight"] + 10}
    assert function.losses(moved) > 0.5 * 6 * 9**2


def test_only_backward_has_several_threads(built):
    text = """
        seen = []
        def build():
            torch.set_num_threads(2)
            return nn.Linear(3, 2), lambda a, y: seen.append((a.dtype, torch.get_num_threads())) or a.sum()
        """
    before = torch.get_num_threads()
    try:
        function = read(built(text), DATA)
        assert set(function.code.module.seen) == {(torch.float32, 2), (torch.float64, 1)}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_else_a_module_and_a_loss_hold_is_widened_and_kept(built):
    text = """
        def build():
            loss = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0]))
            return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), loss
        """
    function = read(built(text), DATA)
    first = function.losses(function.parameters)
    np.testing.assert_array_equal(function.losses(function.parameters), first)


def test_a_parameter_that_backward_leaves_out_is_noted(built):
    text = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = nn.Linear(3, 2), nn.Linear(2, 2, bias=False)

            def forward(self, x):
                return self.used(x)

        def build(): return Net(), cross_entropy
        """
    function = read(built(text), DATA)
    assert function.remarks == (
        "backward computes no gradient for 'unused.weight', so this gradient counts as 0",
    )
    np.testing.assert_array_equal(function.gradients(function.parameters)["unused.weight"], np.zeros((2, 2)))


def test_a_forward_pass_that_goes_back_to_float32_is_noted(built):
    text = """
        def build(): return nn.Linear(3, 2), lambda a, y: cross_entropy(a.float(), y)
        """
    (remark,) = read(built(text), DATA).remarks
    assert remark == "the loss is computed in float32 even if all its inputs are in float64"


def test_bfloat16_is_given_as_float32(built):
    function = read(built("def build(): return nn.Linear(3, 2).bfloat16(), cross_entropy"), DATA)
    assert function.gradients(function.parameters)["weight"].dtype == np.float32


def test_a_bare_function_has_the_parameters_of_its_dict(built):
    text = dedent(FUNCTION).replace("FACTOR", "1") + (
        "def build():\n"
        "    tensors = {'w': torch.ones(3, 2), 'order': torch.arange(3)}\n"
        "    return Product, cross_entropy, tensors"
    )
    function = read(built(text), DATA)
    assert list(function.parameters) == ["w"]
    assert function.gradients(function.parameters)["w"].dtype == np.float32


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_the_padding_row_of_an_embedding_is_not_checked(built, tmp_path, kind):
    """torch gives that row no gradient, even if the output depends on it."""
    text = f"""
        def build():
            module = nn.Sequential(nn.{kind}(4, 3, padding_idx=1), nn.Linear(3, 2)).double()
            with torch.no_grad():
                module[0].weight[1] = 0.5
            return module, lambda out, y: (out**2).sum()
    """
    code = built(text).code
    np.savez(tmp_path / "data.npz", x=np.array([[0, 1, 3], [1, 1, 2]]), y=np.zeros(2))
    spec = tmp_path / "net.yaml"
    spec.write_text(f"data: {{file: data.npz}}\ngradients: {{torch: {code.file.name}:build}}\n")
    report = check(load_spec(spec))
    assert report.verdict is Verdict.AGREES
    assert any("padding_idx" in line for line in report.unusual)
    (weight,) = (c for c in report.comparisons if c.name == "0.weight")
    assert not weight.numerical[1].any()
    assert weight.numerical[[0, 2, 3]].all()


def test_a_padding_row_that_is_used_elsewhere_is_checked(built, tmp_path):
    """The output layer shares the embedding's weight."""
    text = """
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = nn.Embedding(4, 3, padding_idx=1)

            def forward(self, x):
                return self.embedding(x).tanh() @ self.embedding.weight.T

        def build():
            module = Tied().double()
            with torch.no_grad():
                module.embedding.weight[1] = 0.5
            return module, lambda out, y: (out**2).sum()
    """
    code = built(text).code
    np.savez(tmp_path / "data.npz", x=np.array([0, 3, 2]), y=np.zeros(3))
    spec = tmp_path / "net.yaml"
    spec.write_text(f"data: {{file: data.npz}}\ngradients: {{torch: {code.file.name}:build}}\n")
    report = check(load_spec(spec))
    assert report.verdict is Verdict.AGREES
    assert report.comparisons[0].numerical[1].all()


def test_a_constant_of_a_bare_function_is_not_a_parameter(built):
    text = """
        def build():
            tensors = {"a": torch.ones(3, requires_grad=True), "b": torch.ones(3)}
            return (lambda a, b: a * b), (lambda output: output), tensors
        """
    assert list(read(built(text), Inputs(None, None, None)).parameters) == ["a"]
