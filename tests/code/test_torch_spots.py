"""Many features of a torch module's sites are perturbed in one forward pass."""

from __future__ import annotations

import numpy as np
import pytest
from torch_nets import LATER, NORMALISED, sites_of, spec_of

from gradcheck_cli import Verdict, check

pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    for module in ("directions.plan", "subject.by_sites"):  # on a busy machine, code seems to wait
        monkeypatch.setattr(f"gradcheck_cli.{module}.PATIENCE", np.inf)


NOISY = "self.b(torch.tanh(self.a(x))) + 0.0 * torch.rand(()).item()"
LSTM = {
    "shape": (2, 20),
    "out": (2, 20),
    "parts": "nn.LSTM(20, 20, batch_first=True), nn.Linear(20, 20)",
    "forward": "h = torch.tanh(self.a(x))\n        return self.c(self.b(h)[0])",
}
TOGETHER = {
    "with a backward written by hand": ("together", {}),
    "with recurrent layers": ("together", LSTM),
    "with samples that depend on each other": ("together", {"forward": NORMALISED}),
    "with batch normalisation in training": (
        "together_with_buffers",
        {"parts": "nn.Linear(20, 20), nn.BatchNorm1d(20)"},
    ),
    "with a number for Python": ("one_by_one", {"forward": f"return self.c({NOISY})"}),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_features_are_perturbed_together_if_the_losses_are_then_the_same(case, tmp_path):
    passes, how = TOGETHER[case]
    sites = sites_of(spec_of(tmp_path, **how))
    assert {each.__name__ for each in sites.passes} == {passes}
    rng = np.random.default_rng(1044)
    for site in range(len(sites.spots)):
        features, samples = sites.values(site).shape
        some = rng.integers(features, size=3)
        shifts = rng.normal(size=(3, samples))
        alone = [sites.shifted(site, [f], s[None])[0] for f, s in zip(some, shifts, strict=True)]
        np.testing.assert_allclose(sites.shifted(site, list(some), shifts), alone, rtol=1e-10)


def test_a_module_that_stores_intermediate_results_finds_its_own_again(tmp_path):
    stored = "self.seen = getattr(self, 'seen', 0.0) + self.a(x).mean().detach()"
    spec = spec_of(tmp_path, forward=f"{stored}\n        return self.c(torch.tanh(self.b(self.a(x))))")
    sites = sites_of(spec)
    assert {each.__name__ for each in sites.passes} == {"together"}
    assert check(spec).verdict is Verdict.AGREES


def test_a_forward_pass_that_vmap_would_change_runs_for_one_feature_at_a_time(tmp_path):
    changed = "h * (1.0 + torch._C._functorch.is_batchedtensor(h))"
    sites = sites_of(spec_of(tmp_path, forward=LATER.format(changed)))
    assert [each.__name__ for each in sites.passes] == ["one_by_one", "one_by_one", "together"]
