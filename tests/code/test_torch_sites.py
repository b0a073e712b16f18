"""The sites of torch modules: outputs that parameters enter affinely, verified by forward passes."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from torch_nets import LATER, NORMALISED, sites_of, spec_of

from gradcheck_cli import Verdict, WrongGradientError, check, check_torch, load_spec
from gradcheck_cli.code import torch_searched, torch_sites, torch_unrolled
from gradcheck_cli.code.sites import NO_SITES
from gradcheck_cli.code.torch_factors import Turned, turned
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.directions.projections import EVALUATIONS
from gradcheck_cli.subject.code import read_function

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    for module in ("directions.plan", "subject.by_sites"):  # on a busy machine, code seems to wait
        monkeypatch.setattr(f"gradcheck_cli.{module}.PATIENCE", np.inf)


def tensors(*modules):
    return {f"{module}.{name}" for module in modules for name in ("weight", "bias")}


# --- which parameters have sites ----------------------------------------------------------------------------

ALL = tensors("a", "b", "c")
OWN_MATRIX = """type('M', (nn.Module,), {'forward': lambda s, x: x @ s.weight + s.bias})(), nn.Linear(20, 20)
        self.b.weight, self.b.bias = nn.Parameter(torch.randn(20, 20) / 4), nn.Parameter(torch.zeros(20))"""
FUSED = "type('F', (Own,), {'forward': lambda s, x: Own.forward(s, x).relu()})(20, 20), nn.Linear(20, 20)"
ATTENTION = """q, k, v = self.b(torch.tanh(self.a(x))).chunk(3, -1)
        return self.c((q @ k.transpose(-1, -2)).softmax(-1) @ v)"""
TOKENS = {"shape": (2, 20), "out": (2, 20)}
ONE_AXIS = "return self.c(torch.tanh(self.b(self.a(x.reshape(-1, 20))))).reshape(x.shape)"
TIME_FIRST = "return self.c(torch.tanh(self.b(self.a(x.transpose(0, 1))))).transpose(0, 1)"
CONV = "nn.Conv1d(16, 20, 18, padding=1, stride=2), nn.Linear(3, 3)"
TWICE = "return self.c(torch.tanh(self.b(torch.tanh(self.b(self.a(x))))))"
TABLE = "nn.Embedding(30, 20, padding_idx=0), nn.Linear(20, 20)"
LOOKED_UP = "return self.c(torch.tanh(self.a(x) + self.b((9 * x[:, 0]).long() % 30)))"
NORM = "nn.LayerNorm((16, 20)), nn.Linear(20, 20)"
OTHERS = tensors("a", "c")  # what is left of b, its bias, takes fewer evaluations literally

SEQUENCES = {"shape": (2, 20), "out": (2, 20)}


def inside(module, sites, forward="self.b(h)[0]", **how):
    """Return a case in which `b` is this module of torch, and these of its parameters have sites."""
    called = f"h = torch.tanh(self.a(x))\n        return self.c({forward})"
    named = {f"b.{name}" for name in sites}
    return tensors("a", "c") | named, {
        **SEQUENCES,
        "parts": f"{module}, nn.Linear(20, 20)",
        "forward": called,
        **how,
    }


def recurrent(*suffixes):
    return [
        f"{kind}_{of}_{suffix}" for kind in ("weight", "bias") for of in ("ih", "hh") for suffix in suffixes
    ]


ATTENDING = "in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"

FOUND = {
    "in an LSTM": inside("nn.LSTM(20, 20, batch_first=True)", recurrent("l0")),
    "in a GRU": inside("nn.GRU(20, 10, batch_first=True, bidirectional=True)", recurrent("l0", "l0_reverse")),
    "in layers of an RNN": inside("nn.RNN(20, 20, 2, batch_first=True)", recurrent("l0", "l1")),
    "in an attention": inside(
        "nn.MultiheadAttention(20, 4, batch_first=True)", ATTENDING, "self.b(h, h, h)[0]"
    ),
    "in an attention to others": inside(
        "nn.MultiheadAttention(20, 4, batch_first=True)", ATTENDING, "self.b(h, x, h + x)[0]"
    ),
    "in a transposed convolution": inside(
        "nn.ConvTranspose1d(20, 20, 4, stride=2, padding=3, dilation=2)",
        ["weight", "bias"],
        "self.b(h.transpose(1, 2)).transpose(1, 2)",
        out=(3, 20),
    ),
    "in groups of a transposed convolution": inside(
        "nn.ConvTranspose2d(20, 20, 4, stride=2, padding=(3, 1), output_padding=(1, 0), groups=2)",
        ["weight", "bias"],
        "self.b(h.transpose(1, 2)[..., None]).flatten(2).transpose(1, 2)",
        out=(2, 20),
    ),
    "by a backward written by hand": (ALL, {}),
    "in float32": (ALL, {"dtype": "float"}),
    "with one number for a loss": (ALL, {"loss": "terms.mean()"}),
    "called twice": (ALL, {"forward": TWICE}),
    "for several tokens": (ALL, {**TOKENS, "parts": "nn.Linear(20, 60), Own(20, 20)", "forward": ATTENTION}),
    "with samples and tokens in one axis": (ALL, {**TOKENS, "forward": ONE_AXIS}),
    "with time first": (ALL, {**TOKENS, "forward": TIME_FIRST}),
    "below samples that depend on each other": (ALL, {"forward": NORMALISED}),
    "with a transposed weight": (ALL, {"parts": OWN_MATRIX}),
    "in a convolution": (tensors("a", "b"), {"shape": (16, 20), "out": (20, 3), "parts": CONV}),
    "in an embedding with a padding row": (ALL - {"b.bias"}, {"parts": TABLE, "forward": LOOKED_UP}),
    "in a normalisation": (ALL, {"shape": (16, 20), "out": (16, 20), "parts": NORM}),
    "not if used elsewhere": (OTHERS, {"forward": LATER.format("F.linear(h, self.b.weight)")}),
    "not if a row is used elsewhere": (OTHERS, {"forward": LATER.format("h * self.b.weight[3]")}),
    "not if in a penalty": (OTHERS, {"loss": "terms + NET.b.weight.square().sum()"}),
    "not if below a relu in one module": (OTHERS, {"parts": FUSED}),
}


@pytest.mark.parametrize("case", FOUND)
def test_parameters_have_sites_if_they_enter_affinely_and_nowhere_else(case, tmp_path):
    expected, how = FOUND[case]
    assert set(sites_of(spec_of(tmp_path, **how)).uses) == expected


@pytest.mark.parametrize(
    ("loss", "terms"), [("terms", 6), ("terms.mean()", 6), ("terms.sum()", 6), ("terms.sum().sqrt()", 1)]
)
def test_a_loss_that_adds_up_samples_is_taken_sample_by_sample(loss, terms, tmp_path):
    sites = sites_of(spec_of(tmp_path, loss=loss))
    assert (len(sites.rest()), sites.uses.keys()) == (terms, ALL)
    assert {len(sites.terms(use.site)) for uses in sites.uses.values() for use in uses} == {terms}


def test_a_module_of_few_entries_needs_no_sites(tmp_path):
    small = spec_of(
        tmp_path, parts="Own(20, 2), nn.Linear(2, 2)", out=(2,), how="check: {parameters: [b.*, c.*]}"
    )
    function, _ = read_function(small, small.gradients)
    assert function.sites(["b.weight", "b.bias", "c.weight", "c.bias"]) is NO_SITES


def test_a_compiled_module_is_not_watched(tmp_path, monkeypatch):
    spec = spec_of(tmp_path)
    function, _ = read_function(spec, spec.gradients)
    compiler = SimpleNamespace(utils=SimpleNamespace(counters={"frames": {"total": 1}}))
    monkeypatch.setitem(sys.modules, "torch._dynamo", compiler)
    assert function.sites(list(function.parameters)) is NO_SITES


@pytest.mark.parametrize("loss", ["terms", "terms.mean()"])
def test_other_upstreams_need_no_search_of_their_own(loss, tmp_path, monkeypatch):
    spec, searches, search = spec_of(tmp_path, loss=loss), [], torch_searched.find_sites
    monkeypatch.setattr(torch_searched, "find_sites", lambda *a: searches.append(1) or search(*a))
    function, _ = read_function(spec, spec.gradients)
    names = list(function.parameters)
    first, other = function, replace(function, upstream=function.upstream.times(-0.5))
    known, again = first.sites(names), other.sites(names)
    assert (len(searches), again.uses) == (1, known.uses)
    np.testing.assert_allclose(again.rest(), -0.5 * known.rest(), rtol=1e-12)
    np.testing.assert_allclose(again.rest().sum(), other.losses(function.parameters).sum(), rtol=1e-12)


# --- the verdict ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["in float32", "with one number for a loss"])
def test_right_modules_agree_by_unit_differences(case, tmp_path):
    report = check(spec_of(tmp_path, **FOUND[case][1]))
    assert (report.verdict, report.differences) == (Verdict.AGREES, "units")


@pytest.mark.parametrize(("mistake", "entries"), [("dw[3, 4] *= 1.01", 1), ("dw[7] = 0", 20)])
def test_a_wrong_backward_is_wrong_in_its_own_entries_alone(mistake, entries, tmp_path):
    report = check(spec_of(tmp_path, mistake=mistake, how="check: {parameters: b.*}"))
    assert (report.differences, report.wrong) == ("units", entries)
    assert [c.verdict for c in report.comparisons] == [Verdict.WRONG, Verdict.AGREES]


def test_a_detached_branch_is_wrong(tmp_path):
    detached = LATER.format("h * self.b.weight[3].detach()")
    report = check(spec_of(tmp_path, forward=detached, how="check: {parameters: b.*}"))
    assert (report.verdict, report.wrong) == (Verdict.WRONG, 20)


def test_a_report_says_which_way_each_tensor_took(tmp_path):
    how = "check: {parameters: [b.bias, c.*]}"
    report = check(spec_of(tmp_path, forward=LATER.format("F.linear(h, self.b.weight)"), how=how))
    said = "Unit differences checked c.weight, c.bias. The other tensors were checked entry by entry."
    assert (report.verdict, report.way) == (Verdict.AGREES, said)
    assert [c.name for c in report.comparisons] == ["b.bias", "c.weight", "c.bias"]


def test_literal_differences_can_be_asked_for(tmp_path):
    parts = "Own(20, 14), nn.Linear(14, 2)"
    report = check(
        spec_of(tmp_path, parts=parts, out=(2,), how="check: {differences: literal, parameters: b.*}")
    )
    assert (report.verdict, report.differences, report.way) == (Verdict.AGREES, "literal", "")


class Last(torch.nn.Module):
    """A linear layer on the output of a module that torch computes in one piece."""

    def __init__(self, inner, width):
        super().__init__()
        self.inner, self.out = inner.double(), torch.nn.Linear(width, 2).double()

    def forward(self, x):
        return self.out(
            self.inner(*[x] * (3 if isinstance(self.inner, torch.nn.MultiheadAttention) else 1))[0]
        )


INSIDE = {
    "LSTM": (lambda: torch.nn.LSTM(40, 4, batch_first=True), 40, 4),
    "GRU": (lambda: torch.nn.GRU(40, 4, batch_first=True), 40, 4),
    "attention": (lambda: torch.nn.MultiheadAttention(14, 2, batch_first=True), 14, 14),
}


def judged(kind, factor):
    """Check a module, one of whose gradients is multiplied by this factor in a single entry."""
    torch.manual_seed(0)
    build, width, out = INSIDE[kind]
    module = build()
    net, first = Last(module, out), next(module.parameters())
    factors = torch.ones_like(first)
    factors[3, 4] = factor
    first.register_hook(lambda gradient: gradient * factors)
    x = torch.randn(3, 2, width, dtype=torch.float64)
    return check_torch(net, x=x, loss=lambda out, y=None: out.square().sum((1, 2)), only=["inner.*"])


@pytest.mark.parametrize("kind", INSIDE)
def test_an_entry_inside_a_module_of_torch_is_wrong_alone(kind):
    with pytest.raises(WrongGradientError) as caught:
        judged(kind, 1.01)
    assert (caught.value.report.differences, caught.value.report.wrong) == ("units", 1)


def test_a_right_recurrent_module_agrees():
    report = judged("LSTM", 1.0)
    assert (report.verdict, report.differences) == (Verdict.AGREES, "units")


def test_a_module_that_is_written_out_in_a_wrong_way_has_no_sites(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_unrolled, "_lstm", lambda z, c: [z[..., :20].tanh(), c])
    assert set(sites_of(spec_of(tmp_path, **FOUND["in an LSTM"][1])).uses) == OTHERS


# --- factors that are not true ------------------------------------------------------------------------------


class Doubled(Turned):
    """Factors that are twice as large as they should be."""

    def _kept(self, transposed):
        return 2.0 * super()._kept(transposed)


def test_wrong_factors_are_refused(tmp_path, monkeypatch):
    _guess_double(monkeypatch)
    assert not {"b.weight"} & set(sites_of(spec_of(tmp_path)).uses)


def test_literal_differences_overrule_wrong_factors(tmp_path, monkeypatch):
    _guess_double(monkeypatch)
    monkeypatch.setattr(torch_sites._Search, "_fits", lambda *_: True)
    report = check(spec_of(tmp_path, how="check: {parameters: [b.weight]}"))
    assert (report.verdict, report.differences, report.way) == (Verdict.AGREES, "literal", "")


def _guess_double(monkeypatch):
    dense = torch_sites.GUESSES[0]

    def doubled(entry):
        for factors in dense(entry):
            whole = turned(turned(factors, entry.shape[::-1]), entry.shape)
            yield Doubled(whole.factors, whole.shape, whole.rows)

    monkeypatch.setattr(torch_sites, "GUESSES", (doubled,))


# --- code that fails while it is watched --------------------------------------------------------------------

WATCHED = """if self.a._forward_hooks:
            raise KeyError("hooked")
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))"""


def test_the_report_says_why_code_that_fails_while_it_is_watched_took_the_slower_way(tmp_path):
    report = check(spec_of(tmp_path, forward=WATCHED))
    line = (tmp_path / "net.py").read_text().splitlines().index('            raise KeyError("hooked")') + 1
    (note,) = report.unusual
    assert (report.verdict, report.differences) == (Verdict.AGREES, "literal")
    assert note.startswith("the slower way was taken")
    assert note.endswith(
        f"with its modules watched, build of net.py raises KeyError at net.py:{line}: 'hooked'"
    )


def _broken(*_):
    return {}["missing"]


@pytest.mark.parametrize("at", ["torch_sites._agree", "torch_sites.GUESSES", "torch_spots.shifted"])
def test_a_crash_of_gradcheck_is_not_hidden(at, tmp_path, monkeypatch):
    monkeypatch.setattr("gradcheck_cli.code.failures.PACKAGE", __file__)  # as if gradcheck contained the line
    monkeypatch.setattr(f"gradcheck_cli.code.{at}", (_broken,) if at.endswith("GUESSES") else _broken)
    case = FOUND["in an LSTM"][1] if at.endswith("_agree") else {}
    with pytest.raises(KeyError, match="missing"):
        sites_of(spec_of(tmp_path, **case))


# --- the price ---------------------------------------------------------------------------------------------

BOOK = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 50), nn.Sigmoid(), nn.Linear(50, 10)).double()
    return net, lambda out, y: nn.functional.cross_entropy(out, y, reduction="none") / len(y)


def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(100, 784, generator=generator), torch.randint(0, 10, (100,), generator=generator)
"""


def count_forward_passes(monkeypatch):
    """Return a list that receives the number of forward passes of each run; each copy in a vmap counts."""
    passes, run_at, copies = [], Graph.run_at, Graph.losses_of_copies

    def counting(graph, point, weights, changes, *rest):
        passes.append(len(changes) - 1)  # the run itself counts as one pass
        return copies(graph, point, weights, changes, *rest)

    monkeypatch.setattr(Graph, "run_at", lambda *arguments: passes.append(1) or run_at(*arguments))
    monkeypatch.setattr(Graph, "losses_of_copies", counting)
    return passes


def test_every_entry_of_784_50_10_takes_at_most_a_hundredth_of_the_forward_passes(tmp_path, monkeypatch):
    passes = count_forward_passes(monkeypatch)
    (tmp_path / "book.py").write_text(BOOK)
    (tmp_path / "book.yaml").write_text("gradients: {torch: book.py:build}\n")
    report = check(load_spec(tmp_path / "book.yaml"))
    assert (report.verdict, report.agree, report.differences) == (Verdict.AGREES, 39_760, "units")
    assert all((c.error > 0).all() for c in report.comparisons)
    assert sum(passes) >= EVALUATIONS * (50 + 10)  # at least one copy for each unit and each evaluation
    assert 100 * sum(passes) <= EVALUATIONS * report.entries
