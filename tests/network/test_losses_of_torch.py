"""Every loss has the same value and gradient as PyTorch's, in float64, for random draws and options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_losses import target_of

from gradcheck_cli.network.losses import LOSSES, coefficient
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.spec import Spec

torch = pytest.importorskip("torch")
F = torch.nn.functional

DRAWS = range(40)


def _focal(a: Any, y: Any, reduction: str, alpha: float, gamma: float) -> Any:
    """Return the loss as torchvision.ops.sigmoid_focal_loss computes it."""
    p = torch.sigmoid(a)
    bce = F.binary_cross_entropy_with_logits(a, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    loss = bce * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
    return _reduced(loss, reduction)


def _dice(a: Any, y: Any, reduction: str, smooth: float) -> Any:
    p = torch.sigmoid(a)
    return _reduced(1 - (2 * (p * y).sum(1) + smooth) / (p.sum(1) + y.sum(1) + smooth), reduction)


def _triplet(a: Any, reduction: str, margin: float, eps: float) -> Any:
    return F.triplet_margin_loss(*a.chunk(3, dim=1), margin=margin, eps=eps, reduction=reduction)


def _gaussian_nll(a: Any, y: Any, reduction: str, eps: float) -> Any:
    (mean, var), (target, _) = a.chunk(2, dim=1), y.chunk(2, dim=1)
    return F.gaussian_nll_loss(mean, target, var, eps=eps, reduction=reduction)


def _contrastive(a: Any, y: Any, reduction: str, margin: float) -> Any:
    one, other = a.chunk(2, dim=1)
    d = torch.linalg.vector_norm(one - other, dim=1)
    return _reduced(y[:, 0] * d**2 + (1 - y[:, 0]) * torch.clamp(margin - d, min=0) ** 2, reduction)


def _kl_gaussian(a: Any, reduction: str) -> Any:
    mu, logvar = a.chunk(2, dim=1)
    return _reduced(-0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1), reduction)


def _reduced(loss: Any, reduction: str) -> Any:
    return loss.mean() if reduction == "mean" else loss.sum()


def _hinge(a: Any, y: Any, reduction: str) -> Any:
    return F.multi_margin_loss(a, y.argmax(1), reduction=reduction) * a.shape[1]


THEIRS: dict[str, Any] = {
    "mse": lambda a, y, reduction: F.mse_loss(a, y, reduction=reduction),
    "l1": lambda a, y, reduction: F.l1_loss(a, y, reduction=reduction),
    "huber": lambda a, y, reduction, delta: F.huber_loss(a, y, delta=delta, reduction=reduction),
    "cross_entropy": lambda a, y, reduction: F.cross_entropy(a, y, reduction=reduction),
    "bce_with_logits": lambda a, y, reduction, pos_weight: F.binary_cross_entropy_with_logits(
        a, y, reduction=reduction, pos_weight=torch.as_tensor(pos_weight)
    ),
    "hinge": _hinge,
    "multi_margin": lambda a, y, reduction, p, margin: F.multi_margin_loss(
        a, y.argmax(1), p=p, margin=margin, reduction=reduction
    ),
    "gaussian_nll": _gaussian_nll,
    "dot": lambda a, y, reduction: _reduced(a * y, reduction),
    "nll": lambda a, y, reduction: F.nll_loss(a, y.argmax(1), reduction=reduction),
    "kl_div": lambda a, y, reduction: F.kl_div(a, y, reduction=reduction),
    "poisson_nll": lambda a, y, reduction: F.poisson_nll_loss(a, y, reduction=reduction),
    "smooth_l1": lambda a, y, reduction, beta: F.smooth_l1_loss(a, y, beta=beta, reduction=reduction),
    "focal": _focal,
    "dice": _dice,
    "cosine": lambda a, y, reduction, eps: _reduced(1 - F.cosine_similarity(a, y, eps=eps), reduction),
    "triplet": lambda a, y, reduction, **options: _triplet(a, reduction, **options),
    "contrastive": _contrastive,
    "kl_gaussian": lambda a, y, reduction: _kl_gaussian(a, reduction),
}
DRAWN: dict[str, Any] = {
    "alpha": lambda rng: float(rng.choice([-1.0, 0.0, 0.25, 1.0])),
    "p": lambda rng: int(rng.integers(1, 3)),
    "gamma": lambda rng: float(rng.choice([0.0, 0.5, 1.0, 2.0, 3.7])),
    "eps": lambda rng: float(rng.choice([0.0, 1e-8, 1e-6])),
}
"""Vectors shorter than cosine's eps have another gradient in PyTorch than the one of its value."""


def _options(name: str, rng: np.random.Generator, outputs: int) -> dict[str, Any]:
    other = DRAWN.get
    drawn = {key: other(key, lambda rng: rng.uniform(0.2, 2.0))(rng) for key in LOSSES[name].options}
    return drawn | ({"pos_weight": rng.uniform(0.0, 4.0, size=outputs)} if "pos_weight" in drawn else {})


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # says that kl_div's mean may change
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_torch(name, draw):
    rng = np.random.default_rng([draw, *name.encode()])
    samples, outputs = int(rng.integers(1, 9)), 6 * int(rng.integers(1, 4))
    options = _options(name, rng, outputs) if draw else dict(LOSSES[name].options)
    row = LOSSES[name].with_options(**options)
    target = target_of(row, rng, samples, outputs)
    a = rng.normal(scale=10 ** rng.uniform(-1, 1), size=(samples, outputs))
    if name == "gaussian_nll":
        a[:, outputs // 2 :] = np.abs(a[:, outputs // 2 :])
    moved = torch.tensor(a, requires_grad=True)
    for reduction in ("mean", "sum"):
        theirs = THEIRS[name](moved, torch.tensor(target), reduction=reduction, **options)
        (gradient,) = torch.autograd.grad(theirs, moved)
        c = coefficient(row, reduction, 1.0, (outputs,), samples)
        size = max(1.0, np.abs(c * row.value(a, target)).sum())
        assert c * row.value(a, target).sum() == pytest.approx(theirs.item(), rel=1e-12, abs=1e-13 * size)
        largest = np.abs(gradient.numpy()).max()
        np.testing.assert_allclose(
            c * row.gradient(a, target), gradient.numpy(), rtol=1e-12, atol=1e-12 * largest
        )


def _batch(rng: np.random.Generator, classes: int, ignored: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(classes, size=8)
    labels[1:][rng.random(7) < 0.4] = ignored
    labels[0] = (ignored + 1) % classes if ignored >= 0 else labels[0]
    return rng.normal(size=(8, classes)), labels


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", ["cross_entropy", "nll", "multi_margin"])
def test_ignored_labels_weights_and_smoothing_are_those_of_torch(name, draw):
    rng = np.random.default_rng([draw, len(name)])
    ignored = int(rng.choice([-100, -1, 2]))
    x, labels = _batch(rng, 4, ignored)
    loss: dict[str, Any] = {"name": name, "reduction": str(rng.choice(["mean", "sum"]))}
    if name == "multi_margin":
        labels = rng.integers(4, size=8)
    else:
        loss["ignore_index"] = ignored
    if draw % 2:
        loss["weight"] = rng.uniform(0.1, 2.0, size=4).tolist()
    if name == "cross_entropy" and draw % 3:
        loss["label_smoothing"] = float(rng.uniform(0.0, 0.5))
    problem = build_problem(
        Spec.model_validate(
            {
                "network": {
                    "inputs": 4,
                    "layers": [{"units": 4}],
                    "loss": loss,
                },
                "parameters": {"init": "normal", "scale": 1.0, "bias": "same"},
                "data": {"x": x.tolist(), "y": labels.tolist()},
            }
        )
    )
    weight, bias = (torch.tensor(problem.parameters[f"output.{each}"]) for each in ("weight", "bias"))
    a = (torch.tensor(x) @ weight.T + bias).requires_grad_()
    options = {key: value for key, value in loss.items() if key not in ("name", "weight")}
    if "weight" in loss:
        options["weight"] = torch.tensor(loss["weight"], dtype=torch.float64)
    functions = {"cross_entropy": F.cross_entropy, "nll": F.nll_loss, "multi_margin": F.multi_margin_loss}
    theirs = functions[name](a, torch.tensor(labels), **options)
    network = problem.network
    assert problem.objective.total == pytest.approx(theirs.item(), rel=1e-12)
    ours = network.coefficient * network.loss.gradient(a.detach().numpy(), problem.target)
    np.testing.assert_allclose(ours, torch.autograd.grad(theirs, a)[0].numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", ["cross_entropy", "nll", "multi_margin"])
def test_weights_of_samples_are_those_of_torch(name, draw):
    rng = np.random.default_rng([draw, len(name)])
    x, labels, weights = rng.normal(size=(8, 4)), rng.integers(4, size=8), rng.uniform(0.0, 3.0, size=8)
    of_classes = rng.uniform(0.1, 2.0, size=4) if draw % 2 else np.ones(4)
    loss = {"name": name, "sample_weight": weights.tolist(), "reduction": "sum" if draw % 3 else "mean"}
    loss |= {"weight": of_classes.tolist()} if draw % 2 else {}
    spec = {"network": {"inputs": 4, "layers": [{"units": 4}], "loss": loss}}
    problem = build_problem(Spec.model_validate({**spec, "data": {"x": x.tolist(), "y": labels.tolist()}}))
    weight, bias = (torch.tensor(problem.parameters[f"output.{each}"]) for each in ("weight", "bias"))
    a = (torch.tensor(x) @ weight.T + bias).requires_grad_()
    functions = {"cross_entropy": F.cross_entropy, "nll": F.nll_loss, "multi_margin": F.multi_margin_loss}
    each = functions[name](a, torch.tensor(labels), weight=torch.tensor(of_classes), reduction="none")
    divisor = {"multi_margin": 8.0}.get(name, of_classes[labels].sum())
    theirs = (each * torch.tensor(weights)).sum() / (1.0 if draw % 3 else divisor)
    assert problem.objective.total == pytest.approx(theirs.item(), rel=1e-12)
    network = problem.network
    ours = network.coefficient * network.loss.gradient(a.detach().numpy(), problem.target)
    np.testing.assert_allclose(ours, torch.autograd.grad(theirs, a)[0].numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_positions_with_ignored_labels_are_those_of_torch(name, reduction):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(3, 5, 4)), rng.integers(6, size=(3, 5))
    labels[0, 3:] = labels[2, 4:] = -100
    loss = {"name": name, "reduction": reduction, "weight": rng.uniform(0.5, 2.0, size=6).tolist()}
    network = {"inputs": [5, 4], "layers": [{"units": 6}], "loss": loss}
    data = {"x": x.reshape(3, -1).tolist(), "y": labels.tolist()}
    problem = build_problem(Spec.model_validate({"network": network, "data": data}))
    weight, bias = (torch.tensor(problem.parameters[f"output.{each}"]) for each in ("weight", "bias"))
    a = torch.tensor(x) @ weight.T + bias
    theirs = {"cross_entropy": F.cross_entropy, "nll": F.nll_loss}[name](
        a.reshape(-1, 6),
        torch.tensor(labels).reshape(-1),
        weight=torch.tensor(loss["weight"], dtype=torch.float64),
        reduction=reduction,
    )
    assert problem.objective.total == pytest.approx(theirs.item(), rel=1e-12)
