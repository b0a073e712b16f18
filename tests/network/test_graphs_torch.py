"""Networks with any graph match torch: losses and all gradients, for random shapes and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import build_problem

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional

Forward = Callable[[Any, dict[str, Any]], Any]


def compared(spec, forward: Forward, loss: Callable[[Any, Any], Any]):
    """Compare the loss and every gradient with torch's, given the forward pass in torch."""
    problem = build_problem(spec)
    ours = gradients(problem.network, problem.parameters, problem.x, problem.target)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in problem.parameters.items()}
    total = loss(forward(torch.tensor(problem.x), p), torch.tensor(problem.y))
    total.backward()
    np.testing.assert_allclose(problem.objective.total, float(total.detach()), rtol=1e-12)
    for name, value in p.items():
        theirs = np.zeros(value.shape) if value.grad is None else value.grad.numpy()
        np.testing.assert_allclose(
            ours[name], theirs, rtol=1e-12, atol=1e-12 * max(abs(theirs).max(), 1e-2), err_msg=name
        )


def dense(x, p, name):
    return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def norm(x, p, name, shape, eps=1e-5):
    return functional.layer_norm(x, shape, p[f"{name}.weight"], p[f"{name}.bias"], eps)


def over_positions(reduction: str, samples: int):
    """Cross-entropy with PyTorch's classes at axis 1."""

    def loss(out, y):
        total = functional.cross_entropy(
            out.movedim(-1, 1), y.long(), reduction="mean" if reduction == "mean" else "sum"
        )
        return total / samples if reduction == "batchmean" else total

    return loss


def drawn(seed, low=1, high=6, size=None):
    return np.random.default_rng(seed).integers(low, high, size)


@pytest.mark.parametrize("seed", range(40))
def test_max_pool2d_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
    stride = None if rng.random() < 0.3 else tuple(int(s) for s in rng.integers(1, 4, 2))
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    dilation = tuple(int(d) for d in rng.integers(1, 3, 2))
    size = [d * (k - 1) + 1 + int(rng.integers(0, 4)) for d, k in zip(dilation, kernel, strict=True)]
    pool = {"max_pool2d": list(kernel), "padding": list(padding), "dilation": list(dilation)}
    pool |= {} if stride is None else {"stride": list(stride)}
    conv = {"conv2d": 2, "kernel": 1, "activation": "tanh"}
    spec = spec_of(conv, pool, {"flatten": True}, {"units": 3}, inputs=[2, *size], loss="mse", seed=seed)

    def forward(x, p):
        z = torch.tanh(functional.conv2d(x, p["hidden1.weight"], p["hidden1.bias"]))
        pooled = functional.max_pool2d(z, kernel, stride, padding, dilation)
        return dense(pooled.flatten(1), p, "output")

    def loss(out, y):
        return (out - functional.one_hot(y, 3)).square().sum() / len(out)

    compared(spec, forward, loss)


@pytest.mark.parametrize("seed", range(40))
def test_layer_norm_over_the_last_axes_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    shape = [int(n) for n in rng.integers(2, 5, rng.integers(1, 4))]
    axes = int(rng.integers(1, len(shape) + 1))
    eps = float(10.0 ** rng.uniform(-6, 0))
    written = True if axes == 1 and rng.random() < 0.5 else shape[-axes:]
    layers = [{"layer_norm": written, "eps": eps}, {"flatten": True}, {"units": 3}]
    spec = spec_of(*layers, inputs=shape, loss="cross_entropy", seed=seed)

    def forward(x, p):
        return dense(norm(x, p, "layer_norm1", shape[-axes:], eps).flatten(1), p, "output")

    compared(spec, forward, lambda out, y: functional.cross_entropy(out, y))


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
@pytest.mark.parametrize("seed", range(14))
def test_a_block_with_embedding_and_residuals_is_that_of_torch(seed, reduction):
    tokens, width, steps, samples = (int(n) for n in drawn(seed, 2, 7, 4))
    padding = seed % 2 * (tokens - 1)
    layers = [
        {"embedding": tokens, "embedding_dim": width, "padding_idx": padding},
        {"residual": ["layer_norm", {"units": 5, "activation": "gelu"}, {"units": width}]},
        {"residual": [{"units": width, "activation": "tanh"}, "layer_norm"]},
        {"units": 4},
    ]
    loss = {"name": "cross_entropy", "reduction": reduction}
    spec = spec_of(*layers, inputs=steps, loss=loss, samples=samples, seed=seed)

    def forward(x, p):
        x = functional.embedding(x.long(), p["embedding1.weight"], padding)
        inner = functional.gelu(dense(norm(x, p, "layer_norm1", [width]), p, "hidden1"))
        x = x + dense(inner, p, "hidden2")
        x = x + norm(torch.tanh(dense(x, p, "hidden3")), p, "layer_norm2", [width])
        return dense(x, p, "output")

    compared(spec, forward, over_positions(reduction, samples))


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "bce_with_logits"])
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
def test_losses_of_values_are_over_all_positions(name, reduction):
    loss = {"name": name, "reduction": reduction}
    spec = spec_of({"units": 3}, inputs=[4, 2], loss=loss, samples=6)
    theirs = {
        "mse": functional.mse_loss,
        "l1": functional.l1_loss,
        "huber": functional.huber_loss,
        "bce_with_logits": functional.binary_cross_entropy_with_logits,
    }[name]

    def over_all(out, y):
        total = theirs(out, y, reduction="mean" if reduction == "mean" else "sum")
        return total / len(out) if reduction == "batchmean" else total

    compared(spec, lambda x, p: dense(x, p, "output"), over_all)


@pytest.mark.parametrize("seed", range(5))
def test_class_weights_and_smoothing_over_positions_are_those_of_torch(seed):
    weight = [0.5, 2.0, 1.0]
    loss = {"name": "cross_entropy", "reduction": "mean", "weight": weight, "label_smoothing": 0.1}
    spec = spec_of({"units": 3}, inputs=[4, 2], loss=loss, samples=6, seed=seed)

    def theirs(out, y):
        return functional.cross_entropy(
            out.movedim(-1, 1), y.long(), torch.tensor(weight, dtype=out.dtype), label_smoothing=0.1
        )

    compared(spec, lambda x, p: dense(x, p, "output"), theirs)


@pytest.mark.parametrize("seed", range(10))
def test_batch_norm_of_a_dense_layer_at_positions_is_over_samples_and_positions(seed):
    layer = {"units": 3, "batch_norm": True, "activation": "tanh"}
    spec = spec_of(layer, {"units": 2}, inputs=[4, 5], loss="cross_entropy", samples=6, seed=seed)

    def forward(x, p):
        z = dense(x, p, "hidden1").movedim(-1, 1)
        y = functional.batch_norm(z, None, None, p["hidden1.gamma"], p["hidden1.beta"], training=True)
        return dense(torch.tanh(y.movedim(1, -1)), p, "output")

    compared(spec, forward, over_positions("batchmean", 6))
