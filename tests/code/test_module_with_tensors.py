"""A module that takes several tensors: its own parameters are checked with them, and nothing is left out."""

from __future__ import annotations

import pytest

from gradcheck_cli import check_torch
from gradcheck_cli.testing import WrongGradientError

torch = pytest.importorskip("torch")


class Bilinear(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3)))
        self.hidden = hidden

    def forward(self, a, b):
        # The ratio is 1, but its gradient is not 0 if a part of it is detached.
        ratio = self.w.norm().detach() / self.w.norm() if self.hidden else 1.0
        return ratio * torch.einsum("ni,oij,nj->no", a, self.w, b)


def tensors(**more):
    rng = torch.Generator().manual_seed(5)
    return {"a": torch.randn(2, 3, generator=rng), "b": torch.randn(2, 4, generator=rng), **more}


def test_a_right_module_agrees_in_its_parameters_too():
    report = check_torch(Bilinear(hidden=False), tensors())
    assert {c.name for c in report.comparisons} == {"a", "b", "w"}


def test_a_wrong_gradient_of_a_parameter_does_not_pass():
    with pytest.raises(WrongGradientError, match="in w"):
        check_torch(Bilinear(hidden=True), tensors())


def test_a_name_that_the_module_uses_is_refused():
    with pytest.raises(Exception, match="names a tensor 'w'"):
        check_torch(Bilinear(hidden=False), {"w": torch.zeros(2, 3), "b": torch.zeros(2, 4)})


def test_a_tensor_that_is_not_returned_is_reported():
    module = Bilinear(hidden=True).double()
    doubles = {name: tensor.double() for name, tensor in tensors().items()}
    report = check_torch(lambda a, b: module(a, b), doubles)
    assert any("a tensor of shape [2, 3, 4] that requires a gradient" in note for note in report.unusual)
