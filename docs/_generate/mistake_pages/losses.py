"""The examples with less common losses, and with the unbiased variance in batch normalisation."""

from __future__ import annotations

from mistake_pages.programs import LOGITS, MSE, SIGMOID, Example

LOSSES: tuple[Example, ...] = (
    Example(
        "a network that returns logits, with the focal loss, alpha 0.3 and gamma 3",
        loss_spec={"name": "focal", "alpha": 0.3, "gamma": 3.0},
        functions=SIGMOID,
        constants="alpha, gamma = 0.3, 3",
        output=(
            "a = z\np = sigmoid(a)\nq = np.where(y == 1, 1 - p, p)\n"
            "weight, bce = np.where(y == 1, alpha, 1 - alpha), -np.log(1 - q)\n"
            "slope = gamma * q ** (gamma - 1) * np.where(y == 1, 1, -1) * p * (1 - p)"
        ),
        loss="(weight * q**gamma * bce).sum() / N",
        dL_da="dL_da = weight * (q**gamma * (p - y) - slope * bce) / N",
        **LOGITS,
    ),
    Example(
        "a network that returns logits, with the dice loss",
        loss_spec="dice",
        functions=SIGMOID,
        constants="smooth = 1",
        output=(
            "a = z\np = sigmoid(a)\n"
            "overlap = 2 * (p * y).sum(axis=1, keepdims=True) + smooth\n"
            "size = (p + y).sum(axis=1, keepdims=True) + smooth"
        ),
        loss="(1 - overlap / size).sum() / N",
        dL_da="dL_da = (overlap / size - 2 * y) / size * p * (1 - p) / N",
        **LOGITS,
    ),
    Example(
        "a network with the cosine loss",
        loss_spec="cosine",
        output=(
            "a = z\nnorm, norm_y = (np.sqrt((each**2).sum(axis=1, keepdims=True)) for each in (a, y))\n"
            "u, v = a / norm, y / norm_y"
        ),
        loss="(1 - (u * v).sum(axis=1)).sum() / N",
        dL_da="dL_da = ((u * v).sum(axis=1, keepdims=True) * u - v) / norm / N",
        **LOGITS,
    ),
    Example(
        "a network that returns embeddings, with the contrastive loss and margin 4",
        loss_spec={"name": "contrastive", "margin": 4.0},
        constants="margin = 4\ny = y[:, :1]",
        output=(
            "a = z\nfirst, second = np.split(a, 2, axis=1)\napart = first - second\n"
            "d = np.sqrt((apart**2).sum(axis=1, keepdims=True))\nshort = np.maximum(0, margin - d)\n"
            "pull = 2 * y * apart - 2 * (1 - y) * short * apart / d"
        ),
        loss="(y * d**2 + (1 - y) * short**2).sum() / N",
        dL_da="dL_da = np.concatenate([pull, -pull], axis=1) / N",
        sizes=(11, 4, 5, 6),
        **LOGITS,
    ),
    Example(
        "a network that returns logarithms of rates, with the Poisson loss",
        loss_spec="poisson_nll",
        output="a = z\nrate = np.exp(a)",
        loss="(rate - y * a).sum() / N",
        dL_da="dL_da = (rate - y) / N",
        **LOGITS,
    ),
    Example(
        "a network whose batch normalisation uses the unbiased variance",
        layer={"activation": "tanh", "batch_norm": {"eps": 0.001, "unbiased": True}},
        outer="identity",
        loss_spec={"name": "mse", "reduction": "mean"},
        constants="eps = 0.001",
        hidden=(
            "deviation = np.sqrt(z_h.var(axis=0, ddof=1) + eps)\n"
            "z_hat = (z_h - z_h.mean(axis=0)) / deviation\n"
            "y_h = gamma * z_hat + beta\n"
            "a_h = np.tanh(y_h)"
        ),
        output="a = z",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da",
        delta_h=(
            "dL_dy_h = dL_da_h * (1 - a_h**2)\n"
            "g = gamma * dL_dy_h\n"
            "delta_h = (g - g.mean(axis=0) - z_hat * (g * z_hat).sum(axis=0) / (N - 1)) / deviation\n"
            "dL_dgamma = (dL_dy_h * z_hat).sum(axis=0)\n"
            "dL_dbeta = dL_dy_h.sum(axis=0)"
        ),
    ),
)
"""The networks of dense layers with these losses."""
