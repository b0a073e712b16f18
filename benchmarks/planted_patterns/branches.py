"""Code of torch and jax that detaches a branch, with and without harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planted_patterns.case import Case, W, X, Y, of_code


def detached() -> Iterator[Case]:
    import torch

    from gradcheck_cli import check_torch

    x, w = torch.tensor(X), torch.tensor(W)
    both = {"x": x.clone(), "w": w.clone()}
    yield of_code("square with one factor detached", check_torch, lambda x: x * x.detach(), {"x": x.clone()})
    yield of_code(
        "normalised by a detached mean",
        check_torch,
        lambda x: (x - x.mean(0).detach()) ** 3,
        {"x": x.clone()},
    )
    yield of_code(
        "normalised by a detached norm",
        check_torch,
        lambda x: x / x.norm(dim=1, keepdim=True).detach(),
        {"x": x.clone()},
    )
    yield of_code(
        "attention with detached weights",
        check_torch,
        lambda x, w: (x @ w.T).softmax(-1).detach() @ (x[:3] @ w.T),
        both,
    )
    yield of_code(
        "gate with detached input",
        check_torch,
        lambda x, w: torch.sigmoid(x.detach() @ w.T).sum(1, keepdim=True) * x,
        both,
    )

    def without_grad(x: Any) -> Any:
        with torch.no_grad():
            scale = x.abs().amax()
        return (x / scale) ** 2

    yield of_code("scale under no_grad", check_torch, without_grad, {"x": x.clone()})
    yield of_code("data attribute", check_torch, lambda x: x.data.exp() * x, {"x": x.clone()})

    def recurrent(x: Any, w: Any) -> Any:
        h = torch.zeros(3, dtype=x.dtype)
        for row in x:
            h = torch.tanh(w @ row + h.detach())
        return h

    yield of_code("truncated recurrence", check_torch, recurrent, both)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            h = torch.tanh(self.one(x))
            return self.two(h) + self.two(h.detach() ** 2)

    torch.manual_seed(1)
    yield of_code("module with a detached branch", check_torch, Net().double(), x=X)

    def loss(out: Any, y: Any) -> Any:
        return (torch.nn.functional.softplus(out) * out.detach().sigmoid()).sum()

    yield of_code("detached in the loss", check_torch, torch.nn.Linear(4, 3).double(), x=X, y=Y, loss=loss)
    yield from _detached_in_jax()


def _detached_in_jax() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp

    from gradcheck_cli import check_jax

    stop, p = jax.lax.stop_gradient, {"x": X, "w": W}
    yield of_code("jax: square", check_jax, lambda p: (p["x"] * stop(p["x"])).sum(), {"x": X})
    yield of_code(
        "jax: compiled", check_jax, jax.jit(lambda p: jnp.tanh(p["x"] @ stop(p["w"]).T) * jnp.sum(p["w"])), p
    )
    yield of_code(
        "jax: layer norm",
        check_jax,
        lambda p: (p["x"] - stop(p["x"].mean(1, keepdims=True))) / p["x"].std(1, keepdims=True),
        {"x": X},
    )


def wrong_rules() -> Iterator[Case]:
    """Yield torch and jax code that detaches without harm, and has a wrong derivative rule elsewhere."""
    import torch

    from gradcheck_cli import check_torch

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2 * ctx.saved_tensors[0] ** 2 * g

    def shifted(x: Any) -> Any:
        return Cube.apply((x - x.max(1, keepdim=True).values.detach()).softmax(1))

    def logged(x: Any) -> Any:
        with torch.no_grad():
            assert x.sum().isfinite()
        return Cube.apply(x).sum(1)

    def masked(x: Any) -> Any:
        return Cube.apply(x * (x.detach() > 0))

    def weighted(x: Any, w: Any) -> Any:
        return Cube.apply(x @ w.T) * torch.ones_like(x.detach()[:, :1])

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.out(Cube.apply(self.norm(x.detach())))

    x, w = torch.tensor(X), torch.tensor(W)
    yield of_code("torch: shifted softmax", check_torch, shifted, {"x": x.clone()})
    yield of_code("torch: logged", check_torch, logged, {"x": x.clone()})
    yield of_code("torch: masked", check_torch, masked, {"x": x.clone()})
    yield of_code("torch: weighted", check_torch, weighted, {"x": x.clone(), "w": w.clone()})
    torch.manual_seed(2)
    yield of_code("torch: module", check_torch, Net().double(), x=X)
    yield from _wrong_rules_of_jax()


def _wrong_rules_of_jax() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp

    from gradcheck_cli import check_jax

    @jax.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (2 * x**2 * g,))
    stop = jax.lax.stop_gradient
    yield of_code("jax: softmax", check_jax, lambda p: cube(jax.nn.softmax(p["x"])), {"x": X})
    yield of_code(
        "jax: shifted", check_jax, lambda p: cube(jax.nn.softmax(p["x"] - stop(p["x"].max()))), {"x": X}
    )
    yield of_code(
        "jax: masked", check_jax, lambda p: cube(jnp.where(stop(p["x"]) > 0, p["x"], 0.0)), {"x": X}
    )
