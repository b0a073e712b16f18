"""The user's torch module, compared with its own forward pass in float64."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from build import problem_of, right_gradients
from paths import ROOT

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code import torch_module
from gradcheck_cli.code.objective import Inputs
from gradcheck_cli.code.torch_module import read
from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.gradients import CODE_MODELS, Code

torch = pytest.importorskip("torch")

WHERE = ("gradients", "torch")

X = np.random.RandomState(0).randn(5, 3)
Y = np.array([0, 1, 1, 0, 1])
DATA = Inputs(None, X, Y)
HEAD = """
import sys; import torch
from torch import nn

torch.manual_seed(0)
cross_entropy = nn.CrossEntropyLoss()

"""
LINEAR = "def build(): return nn.Linear(3, 2), cross_entropy"


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "net.py").write_text(HEAD + dedent(text))
        return CODE_MODELS["torch"](torch=Code(tmp_path / "net.py", "build"))

    return write


def refused(source, inputs=DATA):
    with pytest.raises(InputError) as caught:
        read(source, inputs)
    (complaint,) = caught.value.complaints
    assert complaint.where == WHERE
    return complaint.message


def test_a_torch_module_is_one_of_the_sources():
    assert CODE_MODELS["torch"].kind.reader == read.__module__


def test_missing_torch_is_reported(written, monkeypatch):
    def import_module(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(torch_module, "import_module", import_module)
    with pytest.raises(InputError) as caught:
        read(written(LINEAR), DATA)
    (complaint,) = caught.value.complaints
    assert complaint.message == "torch cannot be imported: No module named 'torch'"
    assert complaint.help == "pip install torch"


# --- what is right ---------------------------------------------------------------------------------------


def test_parameters_are_the_named_ones_that_require_a_gradient(written):
    text = """
        def build():
            net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            net[0].bias.requires_grad_(False)
            return net, cross_entropy
        """
    function = read(written(text), DATA)
    assert list(function.parameters) == ["0.weight", "2.weight", "2.bias"]
    assert all(array.dtype == np.float64 for array in function.parameters.values())
    assert (function.origin, function.remarks) == ("torch backward of build of net.py", ())


def test_gradients_are_in_the_modules_type_and_losses_in_float64(written):
    function = read(written(LINEAR), DATA)
    gradients = function.gradients(function.parameters)
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float32)}
    x, w, b = np.float32(X).astype(np.float64), function.parameters["weight"], function.parameters["bias"]
    z = x @ w.T + b
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        function.losses(function.parameters), -np.log(p[range(5), Y]).mean(), rtol=1e-14
    )
    np.testing.assert_allclose(gradients["weight"], (p - np.eye(2)[Y]).T @ x / 5, rtol=1e-5)


def test_a_loss_per_sample_is_recognised(written):
    function = read(
        written("def build(): return nn.Linear(3, 2), nn.CrossEntropyLoss(reduction='none')"), DATA
    )
    assert function.losses(function.parameters).shape == (5,)


def test_gradients_do_not_add_up_from_call_to_call(written):
    function = read(written(LINEAR), DATA)
    first, second = (function.gradients(function.parameters)["weight"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_parameters_of_the_spec_are_copied_into_the_module(written):
    given = {"weight": np.full((2, 3), 0.1), "bias": np.array([1, 2])}
    function = read(written(LINEAR), Inputs(given, X, Y))
    np.testing.assert_array_equal(function.parameters["weight"], np.full((2, 3), np.float32(0.1)))
    np.testing.assert_array_equal(function.parameters["bias"], [1.0, 2.0])


def test_the_parameters_of_a_float64_module_are_not_rounded(written):
    given = {"weight": np.full((2, 3), 0.1), "bias": np.zeros(2)}
    function = read(
        written("def build(): return nn.Linear(3, 2).double(), cross_entropy"), Inputs(given, X, Y)
    )
    np.testing.assert_array_equal(function.parameters["weight"], given["weight"])
    assert function.gradients(given)["weight"].dtype == np.float64


def test_whole_numbers_stay_whole(written):
    text = """
        def build():
            return nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 2)), cross_entropy
        """
    function = read(written(text), Inputs(None, np.array([[0, 6], [1, 2]], dtype=np.uint8), np.array([0, 1])))
    assert function.losses(function.parameters).shape == (1,)


def test_masks_stay_masks(written):
    text = "def build(): return nn.Linear(3, 1), lambda a, y: a.squeeze(1)[y].square().sum()"
    assert read(written(text), Inputs(None, X, Y.astype(bool)))


def test_without_data_the_module_is_called_without(written):
    text = """
        class Norm(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.ones(3))

            def forward(self):
                return self.w.square().sum()

        def build(): return Norm(), lambda output: output
        """
    function = read(written(text), Inputs(None, None, None))
    np.testing.assert_array_equal(function.losses(function.parameters), [3.0])


def test_data_may_be_the_modules_own(written):
    text = LINEAR + "\ndata = torch.ones(4, 3), torch.tensor([0, 1, 0, 1])"
    assert read(written(text), Inputs(None, None, None)).gradients


def test_a_loss_that_reads_the_module_sees_the_perturbed_parameters(written):
    """A penalty reads the module itself, so the module is widened in place, not a copy of it."""
    text = """
        def build():
            net = nn.Linear(3, 2)
            return net, lambda a, y: cross_entropy(a, y) + 0.5 * net.weight.square().sum()
        """
    function = read(written(text), DATA)
    moved = {**function.parameters, "weight": function.parameters["weight"] + 10}
    assert function.losses(moved) > 0.5 * 6 * 9**2


def test_only_backward_has_several_threads(written):
    text = """
        seen = []
        def build():
            torch.set_num_threads(2)
            return nn.Linear(3, 2), lambda a, y: seen.append((a.dtype, torch.get_num_threads())) or a.sum()
        """
    before = torch.get_num_threads()
    try:
        function = read(written(text), DATA)
        assert set(function.code.module.seen) == {(torch.float32, 2), (torch.float64, 1)}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_else_a_module_and_a_loss_hold_is_widened_and_kept(written):
    text = """
        def build():
            loss = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0]))
            return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), loss
        """
    function = read(written(text), DATA)
    first = function.losses(function.parameters)
    np.testing.assert_array_equal(function.losses(function.parameters), first)


def test_a_parameter_that_backward_leaves_out_is_noted(written):
    text = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = nn.Linear(3, 2), nn.Linear(2, 2, bias=False)

            def forward(self, x):
                return self.used(x)

        def build(): return Net(), cross_entropy
        """
    function = read(written(text), DATA)
    assert function.remarks == ("backward computes no gradient for 'unused.weight', so it counts as 0",)
    np.testing.assert_array_equal(function.gradients(function.parameters)["unused.weight"], np.zeros((2, 2)))


def test_a_forward_pass_that_goes_back_to_float32_is_noted(written):
    text = """
        def build(): return nn.Linear(3, 2), lambda a, y: cross_entropy(a.float(), y)
        """
    (remark,) = read(written(text), DATA).remarks
    assert remark == "the loss is computed in float32 even if all its inputs are in float64"


def test_bfloat16_is_given_as_float32(written):
    function = read(written("def build(): return nn.Linear(3, 2).bfloat16(), cross_entropy"), DATA)
    assert function.gradients(function.parameters)["weight"].dtype == np.float32


FUNCTION = """
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, order=None):
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w.T, FACTOR * x.T @ grad, None
    """


def test_a_bare_function_has_the_parameters_of_its_dict(written):
    text = dedent(FUNCTION).replace("FACTOR", "1") + (
        "def build():\n"
        "    tensors = {'w': torch.ones(3, 2), 'order': torch.arange(3)}\n"
        "    return Product, cross_entropy, tensors"
    )
    function = read(written(text), DATA)
    assert list(function.parameters) == ["w"]
    assert function.gradients(function.parameters)["w"].dtype == np.float32


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_the_padding_row_of_an_embedding_is_not_checked(written, tmp_path, kind):
    """torch gives that row no gradient, even if the output depends on it."""
    text = f"""
        def build():
            module = nn.Sequential(nn.{kind}(4, 3, padding_idx=1), nn.Linear(3, 2)).double()
            with torch.no_grad():
                module[0].weight[1] = 0.5
            return module, lambda out, y: (out**2).sum()
    """
    code = written(text).code
    np.savez(tmp_path / "data.npz", x=np.array([[0, 1, 3], [1, 1, 2]]), y=np.zeros(2))
    spec = tmp_path / "net.yaml"
    spec.write_text(f"data: {{file: data.npz}}\ngradients: {{torch: {code.file.name}:build}}\n")
    report = check(load_spec(spec))
    assert report.verdict is Verdict.AGREES
    assert any("padding_idx" in line for line in report.unusual)
    (weight,) = (c for c in report.comparisons if c.name == "0.weight")
    assert not weight.numerical[1].any()
    assert weight.numerical[[0, 2, 3]].all()


def test_a_padding_row_that_is_used_elsewhere_is_checked(written, tmp_path):
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
    code = written(text).code
    np.savez(tmp_path / "data.npz", x=np.array([0, 3, 2]), y=np.zeros(3))
    spec = tmp_path / "net.yaml"
    spec.write_text(f"data: {{file: data.npz}}\ngradients: {{torch: {code.file.name}:build}}\n")
    report = check(load_spec(spec))
    assert report.verdict is Verdict.AGREES
    assert report.comparisons[0].numerical[1].all()


def test_a_constant_of_a_bare_function_is_not_a_parameter(written):
    text = """
        def build():
            tensors = {"a": torch.ones(3, requires_grad=True), "b": torch.ones(3)}
            return (lambda a, b: a * b), (lambda output: output), tensors
        """
    assert list(read(written(text), Inputs(None, None, None)).parameters) == ["a"]


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("None", "returns None; (module, loss), or "),
        ("nn.Linear(3, 2)", "returns a Linear; (module, loss), or "),
        ("nn.Linear(3, 2), 1.0", "returns a float for a loss; "),
        ("(lambda x: x), cross_entropy", "returns a function for a module; "),
        ("abs, cross_entropy, [1]", "returns a builtin_function_or_method and a list; "),
        ("None, cross_entropy, {}", "returns None and a dict; "),
        (
            "abs, cross_entropy, {'w': 2 * torch.ones(2, requires_grad=True)}",
            "returns tensors that were comp",
        ),
        ("nn.ReLU(), cross_entropy", "returns nothing that requires a gradient"),
        ("nn.Linear(3, 2), lambda a, y: 1.0", "returns a float for a loss; a tensor is needed"),
        ("nn.Linear(3, 2), lambda a, y: a", "returns a loss of shape [5, 2]; "),
        ("nn.Linear(3, 2), lambda a, y: (a * 1j).sum()", "returns a loss in complex64; a real one is needed"),
        ("nn.Linear(4, 2), cross_entropy", "raises RuntimeError: mat1 and mat2 shapes"),
        ("1 / 0", "raises ZeroDivisionError at net.py:9: "),
        ("sys.exit(3)", "calls sys.exit(3) at net.py:9"),
        ("nn.Linear(3, 2), lambda a, y: a.sum() * float('nan')", "returns nan for the loss; "),
    ],
)
def test_what_cannot_be_checked_is_refused(written, build, message):
    assert refused(written(f"\ndef build(): return {build}")).startswith(f"build of net.py {message}")


def test_names_and_shapes_of_given_parameters_must_be_the_modules(written):
    with pytest.raises(InputError) as caught:
        read(written(LINEAR), Inputs({"weight": np.ones((3, 2)), "bais": np.ones(2)}, X, Y))
    assert [complaint.message for complaint in caught.value.complaints] == [
        "there is no parameter for 'bias', of shape [2]",
        "the parameter for 'weight' has shape [3, 2], not [2, 3]: it is transposed",
        "'bais' is not a parameter",
    ]
    assert {complaint.where for complaint in caught.value.complaints} == {WHERE}


def test_active_dropout_is_refused(written):
    text = (
        "def build(): return nn.Sequential(nn.Linear(3, 20), nn.Dropout(), nn.Linear(20, 2)){}, cross_entropy"
    )
    assert "returns different losses when called twice with the same arguments" in refused(
        written(text.format(""))
    )
    assert read(written(text.format(".eval()")), DATA)


def test_a_forward_pass_that_needs_float32_is_refused(written):
    text = """
        def build():
            net, fixed = nn.Linear(3, 2), torch.ones(2, 2)
            return net, lambda a, y: cross_entropy(a @ fixed, y)
        """
    message = refused(written(text))
    assert message.startswith(
        "in float64, which differences need, build of net.py raises RuntimeError at net.py:"
    )


@pytest.mark.parametrize(
    ("statement", "changed"), [("x.mul_(2)", "x"), ("self.weight.data.mul_(2)", "parameter 'weight'")]
)
def test_an_argument_changed_in_place_is_named(written, statement, changed):
    text = f"""
        class Net(nn.Linear):
            def forward(self, x):
                {statement}
                return super().forward(x)

        def build(): return Net(3, 2), cross_entropy
        """
    assert refused(written(text)) == f"build of net.py changes {changed} in place"


def test_a_failure_at_perturbed_parameters_says_so(written):
    text = """
        class Net(nn.Linear):
            def forward(self, x):
                assert self.bias[0] < 10
                return super().forward(x)

        def build(): return Net(3, 2), cross_entropy
        """
    function = read(written(text), DATA)
    moved = {**function.parameters, "bias": np.array([11.0, 0.0])}
    for evaluate in (function.losses, function.gradients):
        with pytest.raises(
            InputError, match=r"with slightly changed parameters, build of .* raises Assertion"
        ):
            evaluate(moved)


def test_another_number_of_terms_at_perturbed_parameters_is_refused(written):
    text = """
        net = nn.Linear(3, 2)
        def build(): return net, lambda a, y: a.sum(dim=1) if net.bias[0] < 10 else a.sum()
        """
    function = read(written(text), DATA)
    with pytest.raises(InputError, match="gives 1 loss terms, but it gave 5 before"):
        function.losses({**function.parameters, "bias": np.array([11.0, 0.0])})


# --- the whole line --------------------------------------------------------------------------------------


def test_a_torch_network_agrees_with_gradchecks_backprop(written):
    problem = problem_of((4, "tanh"), (2, "identity"), inputs=3, loss="cross_entropy", samples=5)
    text = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden1, self.output = nn.Linear(3, 4), nn.Linear(4, 2)

            def forward(self, x):
                return self.output(torch.tanh(self.hidden1(x)))

        def build(): return Net().double(), cross_entropy
        """
    function = read(written(text), Inputs(problem.parameters, problem.x, problem.y, problem))
    gradients = function.gradients(function.parameters)
    for name, value in right_gradients(problem).items():
        np.testing.assert_allclose(gradients[name], value, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(function.losses(function.parameters).sum(), problem.objective.total)


SPEC = """
    data: {x: [[0.1, 0.2, 0.3], [0.4, -0.5, 0.6]], y: [[1, 0], [0, 1]]}
    gradients: {torch: net.py:build}
    """


@pytest.mark.parametrize("double", ["", ".double()"])
@pytest.mark.parametrize("factor", ["1", "2", "-1", "1.001"])
def test_the_backward_of_a_bare_function_is_judged(written, tmp_path, factor, double):
    written(
        dedent(FUNCTION).replace("FACTOR", factor) + "def build():\n"
        "    loss = lambda a, y: (a - y).square().mean(dim=1)\n"
        f"    return Product, loss, {{'w': torch.randn(3, 2){double}}}"
    )
    (tmp_path / "net.yaml").write_text(dedent(SPEC))
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.verdict is (Verdict.AGREES if factor == "1" else Verdict.WRONG)


@pytest.mark.parametrize("kind", ["float", "double", "bfloat16"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_right_modules_agree(written, tmp_path, kind, mode):
    written(
        f"""
        def build():
            net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Sigmoid())
            return net.{kind}().{mode}(), lambda a, y: (a - y).square().mean(dim=1)
        """
    )
    (tmp_path / "net.yaml").write_text(dedent(SPEC))
    report = check(load_spec(tmp_path / "net.yaml"))
    assert not any(comparison.wrong.any() for comparison in report.comparisons)


def test_the_example_agrees():
    assert check(load_spec(ROOT / "tests" / "examples" / "torch_net.yaml")).verdict is Verdict.AGREES


# --- many points at once ---------------------------------------------------------------------------------

NETS = {
    "module": "def build(): return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), cross_entropy",
    "buffers": "def build(): return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval(), cross_entropy",
    "terms": (
        "def loss(o, y): return nn.functional.cross_entropy(o, y, reduction='none')\n"
        "def build(): return nn.Linear(3, 2), loss"
    ),
    "function": (
        "def build():\n"
        "    tensors = {'w': torch.randn(2, 3), 'b': torch.randn(2)}\n"
        "    return (lambda x, w, b: x @ w.T + b), cross_entropy, tensors"
    ),
}


@pytest.mark.parametrize("net", NETS)
def test_vmap_gives_what_single_runs_give(written, net):
    source = written(NETS[net])
    one, many = read(source, DATA), read(source.model_copy(update={"vectorized": True}), DATA)
    points = [{n: array * (1 + 0.1 * k) for n, array in one.parameters.items()} for k in range(3)]
    np.testing.assert_allclose(many.losses_at(points), one.losses_at(points), rtol=1e-12)


def test_what_vmap_cannot_run_is_refused_with_its_reason(written):
    text = "def loss(o, y): return cross_entropy(o, y) * (2.0 if o.sum() > 0 else 1.0)\n"
    source = written(text + "def build(): return nn.Linear(3, 2), loss")
    read(source, DATA)
    message = refused(source.model_copy(update={"vectorized": True}))
    assert message.startswith("under torch.func.vmap, which `vectorized` asks for")


def test_a_vectorized_module_is_checked_along_directions(written, tmp_path):
    written(NETS["terms"])
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    text = "data: {file: data.npz}\ngradients: {torch: net.py:build, vectorized: true}\ncheck: {fast: true}\n"
    (tmp_path / "net.yaml").write_text(text)
    report = check(load_spec(tmp_path / "net.yaml"))
    assert (report.verdict, report.differences) == (Verdict.AGREES, "directions")
