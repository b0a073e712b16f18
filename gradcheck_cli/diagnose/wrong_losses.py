"""Mistakes in the formula of the loss's gradient ∂L/∂a."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gradcheck_cli.diagnose.families import LOSS
from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.functions import sigmoid, softmax
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.types import Array

Gradient = Callable[[Array, Array], Array]
"""A function that takes the output `a` and the target, and returns ∂ℓ/∂a.

All three arrays are (N, C), for N samples and C outputs; ℓ is the loss of a sample.
"""


def loss_row(
    kind: str, step: Step, sentence: str, wrong: str, code: str = "", shown_by: str = "", freedom: int = 0
) -> Mistake:
    """Return a table row for a mistake in ∂L/∂a."""
    return Mistake(
        kind,
        LOSS,
        sentence,
        f"∂L/∂a = {wrong}",
        "∂L/∂a = c · {dloss}",
        "∂L/∂a",
        code=code,
        shown_by=shown_by,
        freedom=freedom,
        part=Part.LOSS,
        step=step,
    )


def of_loss(gradient: Gradient, *losses: str) -> Step:
    """Return a step that computes a wrong gradient of the loss, times the network's coefficient.

    losses: the names of the losses that the step applies to; by default, it applies to all losses.
    """

    def step(site: Site, _: float) -> Array | None:
        if losses and site.problem.network.loss.name not in losses:
            return None
        return site.c * gradient(site.a, site.target)

    return step


def total_of(target: Array) -> Array:
    """Return the sum of each sample's targets, (N, 1), for N samples."""
    total: Array = target.sum(axis=-1, keepdims=True)
    return total


NOT_ZERO = "targets other than 0"
"""The data that would reveal a mistake in the use of the target."""


# --- losses of logits --------------------------------------------------------------------------------------


def _of_logits(
    loss: str, name: str, p: Callable[[Array], Array], total: Callable[[Array], Array]
) -> Iterator[Mistake]:
    """Yield the mistakes for a loss of logits `a` with the gradient ∂ℓ/∂a = p(a) · total(y) − y.

    loss: the name of the loss.
    name: the symbol of p.
    p: the function that turns logits into probabilities.
    total: a function of the targets y that returns the factor on p, such as the sum of a sample's targets.
    """
    function = LOSSES[loss].applies or ""
    vjp = ACTIVATIONS[function].vjp
    twice, missing = "output activation twice", "output activation missing"

    def row(
        kind: str, gradient: Gradient, sentence: str, wrong: str, code: str = "", shown_by: str = ""
    ) -> Mistake:
        return loss_row(kind, of_loss(gradient, loss), sentence, f"c · {{w}}{wrong}", code, shown_by)

    yield row(
        twice,
        lambda a, t: p(p(a)) * total(t) - t,
        f"{name} is applied twice: the loss already applies it",
        f"({name}({name}(a)) − y)",
        f"dL_da = ({function}(p) - y) / N",
    )
    yield row(
        twice,
        lambda a, t: vjp(a, p(a) * total(t) - t),
        f"the factor {name}(a) − y already contains the derivative of {name}, but is multiplied by it again",
        f"({name}(a) − y) · {name}'(a)",
    )
    yield row(
        twice,
        lambda a, t: (p(a) * total(t) - t) * p(a) * (1.0 - p(a)),
        "p − y is multiplied by an extra p (1 − p)",
        "(p − y) p (1 − p)",
    )
    yield row(
        missing,
        lambda a, t: a * total(t) - t,
        f"the gradient uses the logits a instead of {name}(a)",
        "(a − y)",
        "dL_da = (a - y) / N",
    )
    yield row(
        missing,
        lambda a, t: -t / p(a),
        f"the gradient is ∂L/∂p: the derivative of p = {name}(a) is missing",
        "(−y / p)",
    )
    yield row(
        "sign of the target",
        lambda a, t: p(a) * total(t) + t,
        "the target is added instead of subtracted",
        f"({name}(a) + y)",
        shown_by=NOT_ZERO,
    )
    yield row(
        "target forgotten",
        lambda a, t: p(a) * total(t),
        "the target is not subtracted",
        f"{name}(a)",
        shown_by=NOT_ZERO,
    )


def _softmax_over_the_batch(a: Array, target: Array) -> Array:
    return softmax(a.T).T * total_of(target) - target


LOGIT_MISTAKES: tuple[Mistake, ...] = (
    *_of_logits("cross_entropy", "softmax", softmax, total_of),
    *_of_logits("bce_with_logits", "σ", sigmoid, np.ones_like),
    loss_row(
        "output activation missing",
        of_loss(lambda a, t: -t / sigmoid(a) + (1.0 - t) / sigmoid(-a), "bce_with_logits"),
        "the gradient is ∂L/∂p: the derivative of p = σ(a) is missing",
        "c · {w}(−y / p + (1 − y) / (1 − p))",
    ),
    loss_row(
        "softmax along the wrong axis",
        of_loss(_softmax_over_the_batch, "cross_entropy"),
        "softmax is taken over the samples, not over the outputs",
        "c · {w}(softmax over n − y)",
        "p = np.exp(a) / np.exp(a).sum(axis=0)\ndL_da = (p - y) / N",
    ),
)


# --- another loss ------------------------------------------------------------------------------------------


_OTHERS: Mapping[str, tuple[str, Gradient, str]] = {
    "mse": ("2 (a − y)", lambda a, t: 2.0 * (a - t), "2 * (a - y)"),
    "½ mse": ("(a − y)", lambda a, t: a - t, "(a - y)"),
    "l1": ("sign(a − y)", lambda a, t: np.sign(a - t), "np.sign(a - y)"),
    "huber": ("clip(a − y, ± 1)", lambda a, t: np.clip(a - t, -1.0, 1.0), "np.clip(a - y, -1, 1)"),
    "cross_entropy": (
        "(softmax(a) − y)",
        lambda a, t: softmax(a) * total_of(t) - t,
        "(np.exp(a) / np.exp(a).sum(axis=1, keepdims=True) - y)",
    ),
    "bce_with_logits": ("(σ(a) − y)", lambda a, t: sigmoid(a) - t, "(1 / (1 + np.exp(-a)) - y)"),
    "cross_entropy of probabilities": ("(−y / a)", lambda a, t: -t / a, "-(y / a)"),
    "bce of probabilities": (
        "(a − y) / (a (1 − a))",
        lambda a, t: (a - t) / (a * (1.0 - a)),
        "(a - y) / (a * (1 - a))",
    ),
    "squared hinge": (
        "2 max(0, …)",
        lambda a, t: _squared_hinge(a, t),
        "2 * (over * margins - y * (over * margins).sum(axis=1, keepdims=True))",
    ),
}
"""Gradients that code may use by mistake, keyed by the name of their loss.

Each row holds the formula, a function that computes the gradient, and numpy code.
"""


def _squared_hinge(a: Array, target: Array) -> Array:
    over = np.where(target > 0, 0.0, np.maximum(a - (a * target).sum(-1, keepdims=True) + 1.0, 0.0))
    return 2.0 * (over - target * over.sum(axis=-1, keepdims=True))


def _another(name: str, formula: str, gradient: Gradient, code: str) -> Mistake:
    def step(site: Site, _: float) -> Array | None:
        own = site.problem.network.loss
        half = own.name == "mse" and name == "½ mse"  # they differ by a factor
        raw = own.applies is not None and name == "½ mse"  # the output activation is missing
        if own.name == name or half or raw or (name == "squared hinge" and own.name != "hinge"):
            return None
        return site.c * gradient(site.a, site.target)

    return loss_row(
        "another loss",
        step,
        f"this is the gradient of {name}, but the loss is {{loss}}",
        f"c · {{w_n}}{formula}",
        f"dL_da = {code} / N",
    )


OTHER_LOSS_MISTAKES = tuple(_another(name, *row) for name, row in _OTHERS.items())
