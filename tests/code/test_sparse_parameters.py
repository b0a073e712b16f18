"""Sparse parameters, sparse data and sparse gradients of torch modules: the stored numbers are checked."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import InputError, Verdict, WrongGradientError, check, check_torch, load_spec

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

PLACES = torch.tensor([[0, 1, 1, 2, 1], [2, 0, 3, 1, 0]])  # (1, 0) is stored twice
DENSE = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(4, 2)


def coo(dtype=torch.float64):
    values = torch.tensor([0.5, -1.0, 2.0, 1.5, 0.75], dtype=dtype)
    return torch.sparse_coo_tensor(PLACES, values, (3, 4)).requires_grad_()


def coalesced(dtype=torch.float64):
    return coo(dtype).detach().coalesce().requires_grad_()


def csr(dtype=torch.float64):
    return coo(dtype).detach().coalesce().to_sparse_csr().requires_grad_()


def hybrid(dtype=torch.float64):
    values = torch.linspace(-1, 1, 20, dtype=dtype).reshape(5, 4)
    return torch.sparse_coo_tensor(PLACES[:1], values, (3, 4)).requires_grad_()


LEAVES = {"coo": coo, "coalesced": coalesced, "csr": csr, "hybrid": hybrid}


def squares(back):
    """Return the square of a sparse matrix, as an autograd function with a backward made by `back`."""

    class Squares(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a.to_dense() ** 2

        @staticmethod
        def backward(ctx, up):
            (a,) = ctx.saved_tensors
            return back(a, 2 * a.to_dense() * up)

    return Squares


def one_entry(gradient):
    factor = torch.ones_like(gradient)
    factor[1, 3] = 1.01
    return factor * gradient


BACKWARDS = {
    "dense": lambda a, g: g,
    "in the pattern": lambda a, g: g.sparse_mask(a.coalesce()) if a.is_sparse else g.to_sparse_csr(),
    "wider": lambda a, g: (g + 1.0 * (a.to_dense() == 0)).to_sparse(),
}


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [("coo", torch.float64), ("coalesced", torch.float32), ("csr", torch.float32), ("hybrid", torch.float64)],
)
def test_the_stored_numbers_are_checked_and_put_back(leaf, dtype):
    a = LEAVES[leaf](dtype)
    before = a.detach().clone()
    report = check_torch(lambda a: a.to_dense().sin(), {"a": a}, order=2)
    assert (report.verdict, report.comparisons[0].name) == (Verdict.AGREES, "a.values")
    assert (
        report.comparisons[0].analytic.shape == (before._values() if a.is_sparse else before.values()).shape
    )
    assert (
        "'a' is sparse: the numbers that it stores are checked, and its other entries stay 0"
        in report.unusual
    )
    assert (a.layout, a.dtype, a.requires_grad) == (before.layout, dtype, True)
    assert torch.equal(a.detach().to_dense(), before.to_dense())


@pytest.mark.parametrize(
    ("leaf", "backward"),
    [("coo", "dense"), ("coo", "wider"), ("coalesced", "in the pattern"), ("csr", "in the pattern")],
)
def test_a_backward_may_return_any_layout_and_is_wrong_in_its_own_entry(leaf, backward):
    back = BACKWARDS[backward]
    assert check_torch(squares(back), {"a": LEAVES[leaf]()}).verdict is Verdict.AGREES
    with pytest.raises(WrongGradientError) as caught:
        check_torch(squares(lambda a, g: back(a, one_entry(g))), {"a": LEAVES[leaf]()})
    assert caught.value.report.wrong == 1


def test_an_entry_that_the_gradient_leaves_out_counts_as_0():
    with pytest.raises(WrongGradientError) as caught:
        check_torch(squares(lambda a, g: torch.sparse_coo_tensor(size=a.shape).to(g)), {"a": coalesced()})
    np.testing.assert_array_equal(caught.value.report.comparisons[0].analytic, np.zeros(4))


def test_a_complex_sparse_matrix_has_two_parts():
    a = (coo().detach() * (1 + 2j)).requires_grad_()
    report = check_torch(lambda a: torch.sparse.mm(a, DENSE.to(a.dtype)), {"a": a})
    assert [c.name for c in report.comparisons] == ["a.values.real", "a.values.imag"]


class Graph(torch.nn.Module):
    """A graph convolution whose adjacency matrix is x, a buffer or a parameter."""

    def __init__(self, adjacency=None):
        super().__init__()
        self.lin = torch.nn.Linear(2, 2)
        if isinstance(adjacency, torch.nn.Parameter):
            self.adjacency = adjacency
        elif adjacency is not None:
            self.register_buffer("adjacency", adjacency)

    def forward(self, x=None):
        adjacency = self.adjacency if x is None else x
        return torch.tanh(adjacency @ self.lin(DENSE.to(adjacency.dtype)))


@pytest.mark.parametrize("leaf", ["coo", "csr"])
def test_a_sparse_matrix_may_be_data_a_buffer_or_a_parameter(leaf):
    matrix = LEAVES[leaf](torch.float32).detach()
    for module, x in (
        (Graph(), matrix),
        (Graph(matrix), None),
        (Graph(torch.nn.Parameter(matrix.clone())), None),
    ):
        assert check_torch(module, x=x).verdict is Verdict.AGREES
    assert isinstance(module.adjacency, torch.nn.Parameter)


def test_sparse_data_may_stand_in_the_file(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "data = torch.eye(5, 3).to_sparse(), torch.arange(5) % 2\n"
        "def loss(out, y): return torch.nn.functional.cross_entropy(out, y)\n"
        "class Net(torch.nn.Linear):\n"
        "    def forward(self, x): return torch.sparse.mm(x, self.weight.t()) + self.bias\n"
        "def build(): return Net(3, 2), loss\n"
    )
    (tmp_path / "net.yaml").write_text("gradients: {torch: net.py:build}\n")
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.verdict is Verdict.AGREES
    assert "5 samples" in report.network


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_dense_table_may_get_a_sparse_gradient(factor):
    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx, table):
            return table[[2, 0, 2]]

        @staticmethod
        def backward(ctx, up):
            return torch.sparse_coo_tensor(
                torch.tensor([[2, 0, 2]]), up * torch.tensor([1, 1, factor])[:, None], (4, 2)
            )

    if factor == 1.0:
        assert check_torch(Look, [DENSE]).verdict is Verdict.AGREES
    else:
        with pytest.raises(WrongGradientError) as caught:
            check_torch(Look, [DENSE])
        assert caught.value.report.wrong == 2


def test_what_torch_cannot_do_with_a_sparse_parameter_is_said():
    with pytest.raises(
        InputError, match="has the sparse tensor 'a', which torch does not accept in forward mode"
    ):
        check_torch(lambda a: a.to_dense(), {"a": coo()}, forward_mode=True)
    with pytest.raises(
        InputError, match=r"names a tensor 'a.values', but that name stands for a part of the sparse"
    ):
        check_torch(lambda a, b: a.to_dense() + b, {"a": coo(), "a.values": torch.ones(3, 4)})
