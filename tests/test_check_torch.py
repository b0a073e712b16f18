"""`check_torch` and `check_jax` check modules and functions of a program, without a spec."""

from __future__ import annotations

import pytest

from gradcheck_cli import InputError, WrongGradientError, check_jax, check_torch

torch = pytest.importorskip("torch")


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, factor):
        ctx.save_for_backward(z, factor)
        return factor * z**3

    @staticmethod
    def backward(ctx, up):
        z, factor = ctx.saved_tensors
        return 3 * z**2 * up * factor, None


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_module_is_checked_with_its_loss_and_restored():
    net = torch.nn.Linear(3, 2)
    net.weight.grad = torch.ones(2, 3)
    before = net.weight.detach().clone()
    report = check_torch(net, x=numbers(4, 3), y=numbers(4, 2), loss=torch.nn.functional.mse_loss, order=2)
    assert report.source == "torch double backward of Linear"
    assert {c.name for c in report.comparisons} == {"weight", "bias"}
    assert net.weight.dtype == torch.float32
    assert torch.equal(net.weight, before)
    assert torch.equal(net.weight.grad, torch.ones(2, 3))


def test_a_function_is_checked_by_the_names_of_its_arguments():
    z = numbers(3)
    report = check_torch(Cube, (z, torch.tensor(2)), only="z", order=2)
    assert (report.loss_name.split(",")[0], report.passed, z.requires_grad) == ("g = ⟨∇L", True, False)
    with pytest.raises(WrongGradientError):
        check_torch(lambda z: Cube.apply(z, torch.tensor(2)).detach() * z, [z])


def test_what_a_function_raises_is_told_with_its_cause():
    with pytest.raises(InputError, match="raises ZeroDivisionError") as caught:
        check_torch(lambda z: 1 / 0, [numbers(3)])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(InputError, match="give the tensors that the function takes"):
        check_torch(lambda z: z)
    with pytest.raises(InputError, match="'order' is 3"):
        check_torch(Cube, [numbers(3)], order=3)


@pytest.mark.parametrize("mode", ["forward_mode", "batched"])
def test_another_mode_does_not_go_with_second_derivatives(mode):
    with pytest.raises(InputError, match=f"'{mode}' does not work with 'order: 2'"):
        check_torch(torch.sin, [numbers(3)], order=2, **{mode: True})


def test_a_function_of_jax_is_checked():
    jax = pytest.importorskip("jax")
    import numpy as np

    point = {"w": np.array([0.5, -1.0])}
    assert check_jax(lambda p: jax.numpy.sin(p["w"]), point).passed
    with pytest.raises(WrongGradientError):
        check_jax(lambda p: p["w"] * jax.lax.stop_gradient(p["w"]), point)
