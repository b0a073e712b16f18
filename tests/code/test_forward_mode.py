"""`forward_mode: true` checks jvp as well, and says which of the two modes is wrong."""

from __future__ import annotations

import pytest

from gradcheck_cli import InputError, Verdict, WrongGradientError, check, check_jax, check_torch, load_spec

torch = pytest.importorskip("torch")


def cube(backward=3.0, forward=3.0):
    """Return the cube as an autograd function with these factors in its two derivatives."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x**3

        @staticmethod
        def backward(ctx, up):
            return backward * ctx.saved_tensors[0] ** 2 * up

        @staticmethod
        def jvp(ctx, tangent):
            return forward * ctx.saved_tensors[0] ** 2 * tangent

    if forward is None:
        del Cube.jvp
    return Cube


X = [torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)]
Z = [torch.tensor([0.5 + 1.0j, -1.0j], dtype=torch.complex128)]


def test_two_right_modes_agree_for_real_and_complex_parameters():
    def function(x, z):
        return cube().apply(x), z**2

    report = check_torch(function, {"x": X[0], "z": Z[0]}, forward_mode=True)
    assert report.source.startswith("torch backward of")
    assert report.unusual == ("forward mode (jvp) agrees as well",)


@pytest.mark.parametrize(
    ("backward", "forward", "source", "place"),
    [
        (2.0, 3.0, "torch backward of Cube", "so the fault is in reverse mode (vjp)"),
        (3.0, 2.0, "torch forward mode of Cube", "so the fault is in forward mode (jvp)"),
        (2.0, 2.0, "torch backward of Cube", "are both wrong"),
    ],
)
def test_the_mode_that_is_wrong_is_named(backward, forward, source, place):
    with pytest.raises(WrongGradientError) as caught:
        check_torch(cube(backward, forward), X, forward_mode=True)
    report = caught.value.report
    assert report.source == source
    assert report.diagnosis.places[0].endswith(place)


def test_a_function_without_a_jvp_is_refused():
    with pytest.raises(InputError, match="You must implement the jvp function"):
        check_torch(cube(forward=None), X, forward_mode=True)


def test_a_jax_rule_may_be_forward():
    jax = pytest.importorskip("jax")
    square = jax.custom_jvp(lambda z: z**2)
    square.defjvp(lambda point, tangent: (point[0] ** 2, 2 * point[0] * tangent[0]))
    report = check_jax(lambda p: square(p["z"]), {"z": X[0].numpy()}, forward_mode=True)
    with pytest.raises(InputError, match="'forward_mode' does not work with 'order: 2'"):
        check_jax(lambda p: square(p["z"]), {"z": X[0].numpy()}, forward_mode=True, order=2)
    assert (report.verdict, report.unusual) == (Verdict.AGREES, ("forward mode (jvp) agrees as well",))


NETWORK = """network: {inputs: 3, layers: [{units: 2}], loss: mse}
data: {synthetic: normal, samples: 4, seed: 1}
"""


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("gradients: {python: net.py:f}\n", "a Python function"),
        (NETWORK, "the gradients of a network"),
        (f"{NETWORK}gradients: {{torch: net.py:f}}\n", "a network section"),
    ],
)
def test_other_sources_have_no_forward_mode(tmp_path, spec, what):
    (tmp_path / "net.py").write_text("def f(p): return 0.0, {}")
    (tmp_path / "net.yaml").write_text(f"{spec}check: {{forward_mode: true}}")
    with pytest.raises(InputError, match=f"'forward_mode' does not work with {what}"):
        check(load_spec(tmp_path / "net.yaml"))
