"""`batched: true` also checks backward for a batch of upstreams, and says which of the two is wrong."""

from __future__ import annotations

import pytest

from gradcheck_cli import InputError, Verdict, WrongGradientError, check, check_torch, load_spec

torch = pytest.importorskip("torch")

X = [torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)]


class Doubled(torch.autograd.Function):
    """Multiply by 2, with a rule for vmap in which the last row of a batch has a factor of its own."""

    last = 2.0

    @staticmethod
    def forward(x):
        return 2.0 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, up):
        return 2.0 * up

    @classmethod
    def vmap(cls, info, in_dims, x):
        x = x.movedim(in_dims[0], 0)
        factors = torch.full((len(x), *[1] * (x.ndim - 1)), 2.0, dtype=x.dtype)
        factors[-1] = cls.last
        return factors * x, 0


class WrongInTheLastRow(Doubled):
    last = 3.0


def function(rule=Doubled, factor=1.0):
    """Return x² with a backward that calls `rule` and multiplies its result by a factor."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, up):
            return factor * rule.apply(up) * ctx.saved_tensors[0]

    return Square


def test_a_right_backward_agrees_in_a_batch():
    report = check_torch(function(), X, batched=True)
    assert report.source.startswith("torch backward of")
    assert report.unusual == ("batched backward (vmap) agrees as well",)


def test_parameters_of_every_kind_agree_in_a_batch():
    z = torch.tensor([0.5 + 1.0j, -1.0j], dtype=torch.complex128)
    unused = torch.ones(2, dtype=torch.float64)
    report = check_torch(lambda x, z, u: (x.sin(), z**2), {"x": X[0], "z": z, "u": unused}, batched=True)
    assert report.unusual[-1] == "batched backward (vmap) agrees as well"
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    squares = lambda out, y=None: out.square().sum()  # noqa: E731
    assert check_torch(module, x=torch.ones(2, 3), loss=squares, batched=True).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("rule", "factor", "source", "place"),
    [
        (
            WrongInTheLastRow,
            1.0,
            "torch batched backward (torch.func.vmap) of Square",
            "so the fault is in batched backward",
        ),
        (WrongInTheLastRow, 1.01, "torch backward of Square", "batched backward (vmap) are both wrong"),
    ],
)
def test_the_mode_that_is_wrong_is_named(rule, factor, source, place):
    with pytest.raises(WrongGradientError) as caught:
        check_torch(function(rule, factor), X, batched=True)
    report = caught.value.report
    assert report.source == source
    assert place in report.diagnosis.places[0]
    if factor == 1.0:
        (said,) = report.diagnosis.trials
        assert said.endswith("gives a different gradient of x than for each upstream gradient alone")


def test_a_backward_that_cannot_be_batched_is_refused():
    class Numpy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2.0 * x

        @staticmethod
        def backward(ctx, up):
            return 2.0 * up if float(up.sum()) != 0.5 else up

    with pytest.raises(InputError, match="write backward with operations that torch"):
        check_torch(Numpy, X, batched=True)


@pytest.mark.parametrize(
    ("source", "what"), [("python", "a Python function"), ("jax", "jax code"), ("torch", "'order: 2'")]
)
def test_other_checks_have_no_batches(tmp_path, source, what):
    pytest.importorskip("jax")
    (tmp_path / "net.py").write_text("def f(p): return 0.0, {}")
    order = ", order: 2" if source == "torch" else ""
    (tmp_path / "net.yaml").write_text(f"gradients: {{{source}: net.py:f}}\ncheck: {{batched: true{order}}}")
    with pytest.raises(InputError, match=f"'batched' does not work with {what}"):
        check(load_spec(tmp_path / "net.yaml"))
