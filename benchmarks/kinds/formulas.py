"""Likelihoods, oscillations, matrices, spectra, trajectories, and gradients that are 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinds.function import Array, Arrays, Draw, Function, chance, normal, one_of, whole

LIKELIHOOD_SLIPS = (
    "1/rate forgotten",
    "count forgotten",
    "1 − share forgotten",
    "sign of the complement",
    "width's logarithm forgotten",
    "cube is a square",
    "mean's sign",
    "mean without the width",
    "½ of the root forgotten",
    "last sample left out",
    "averaged over the samples",
)


def likelihood(rng: Draw) -> Function:
    """Logarithms and roots of positive numbers of different sizes. Other numbers raise or lead to NaN."""
    n, k = whole(rng, 1, 5), whole(rng, 1, 4)
    width = 10.0 ** rng.uniform(-3, 1, k)
    parameters = {
        "rate": 10.0 ** rng.uniform(-4, 1, k),
        "share": 1.0 / (1.0 + 10.0 ** rng.uniform(-3, 3, k)),
        "width": width,
        "mean": normal(rng, k),
    }
    data = {
        "count": rng.integers(5, size=(n, k)) * 1.0,
        "hit": rng.integers(2, size=(n, k)) * 1.0,
        "offset": width * normal(rng, n, k) + parameters["mean"],
    }
    raises = chance(rng, 0.5)
    return Function(parameters, data, lambda p, d: _likelihood_forward(p, d, raises), _likelihood_backward)


def _likelihood_forward(p: Arrays, d: Arrays, raises: bool) -> tuple[Array, Any]:
    rate, share, width = p["rate"], p["share"], p["width"]
    inside = (rate > 0).all() and (share > 0).all() and (share < 1).all() and (width > 0).all()
    if not inside and raises:
        raise ValueError("rate and width must be positive, share between 0 and 1")
    if not inside:
        return np.full(len(d["hit"]), np.nan), None
    u = (d["offset"] - p["mean"]) / width
    losses = (
        rate
        - d["count"] * np.log(rate)
        + rate**0.5
        - d["hit"] * np.log(share)
        - (1.0 - d["hit"]) * np.log(1.0 - share)
        + np.log(width)
        + 0.5 * u**2
    )
    return losses.sum(1), u


def _likelihood_backward(p: Arrays, d: Arrays, u: Array, slip: str) -> Arrays:
    if u is None:
        return {name: np.nan * value for name, value in p.items()}
    rate, share, width, hit = p["rate"], p["share"], p["width"], d["hit"]
    count = 1.0 if slip == "count forgotten" else d["count"]
    root = (1.0 if slip == "½ of the root forgotten" else 0.5) * rate**-0.5
    complement = (1.0 - hit) / (1.0 if slip == "1 − share forgotten" else 1.0 - share)
    sign = -1.0 if slip == "sign of the complement" else 1.0
    log = 0.0 if slip == "width's logarithm forgotten" else 1.0 / width
    steep = u**2 if slip == "cube is a square" else u**2 / width
    slopes = {
        "rate": 1.0 - count / (1.0 if slip == "1/rate forgotten" else rate) + root,
        "share": -hit / share + sign * complement,
        "width": log - steep,
        "mean": (u if slip == "mean's sign" else -u) / (1.0 if slip == "mean without the width" else width),
    }
    slopes = {name: slope + 0.0 * u for name, slope in slopes.items()}
    if slip == "last sample left out":
        slopes = {name: slope[:-1] for name, slope in slopes.items()}
    if slip == "averaged over the samples":
        return {name: slope.mean(0) for name, slope in slopes.items()}
    return {name: slope.sum(0) for name, slope in slopes.items()}


WAVE_SLIPS = (
    "2 forgotten",
    "time forgotten in the decay",
    "time forgotten in the frequency",
    "sign of the decay",
    "cosine's sign",
    "sine for the cosine",
    "amplitude forgotten in the phase",
    "1/N forgotten",
    "decay forgotten in the frequency",
)


def wave(rng: Draw) -> Function:
    """A decaying oscillation with four scalar parameters, fitted by least squares."""
    n = whole(rng, 1, 8)
    parameters = {
        "amplitude": np.array(rng.uniform(0.5, 2.0)),
        "decay": np.array(rng.uniform(0.1, 1.0)),
        "frequency": np.array(10.0 ** rng.uniform(-1, 1.5)),
        "phase": np.array(rng.uniform(-3, 3)),
    }
    return Function(
        parameters, {"t": rng.uniform(0, 3, n), "y": normal(rng, n)}, _wave_forward, _wave_backward
    )


def _wave_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    fading = np.exp(-p["decay"] * d["t"])
    angle = p["frequency"] * d["t"] + p["phase"]
    error = p["amplitude"] * fading * np.sin(angle) - d["y"]
    return error**2 / len(error), (fading, angle, error)


def _wave_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    fading, angle, error = saved
    t, one = d["t"], 1.0 + 0.0 * d["t"]
    delta = (1.0 if slip == "2 forgotten" else 2.0) * error / (1 if slip == "1/N forgotten" else len(error))
    bend = np.sin(angle) if slip == "sine for the cosine" else np.cos(angle)
    turned = delta * fading * bend * (-1.0 if slip == "cosine's sign" else 1.0)
    sign = 1.0 if slip == "sign of the decay" else -1.0
    swing = delta * bend if slip == "decay forgotten in the frequency" else turned
    return {
        "amplitude": (delta * fading * np.sin(angle)).sum(),
        "decay": (
            sign
            * p["amplitude"]
            * delta
            * (one if slip == "time forgotten in the decay" else t)
            * fading
            * np.sin(angle)
        ).sum(),
        "frequency": (
            p["amplitude"] * swing * (one if slip == "time forgotten in the frequency" else t)
        ).sum(),
        "phase": (turned * (1.0 if slip == "amplitude forgotten in the phase" else p["amplitude"])).sum(),
    }


MATRIX_SLIPS = (
    "inverse not transposed",
    "sign of the inverse",
    "determinant's term forgotten",
    "determinant's inverse not transposed",
    "determinant once for every sample",
    "one side transposed",
    "symmetric part alone",
    "diagonal left out",
    "upper triangle alone",
)


def matrix(rng: Draw) -> Function:
    """yᵀ A⁻¹ x and log |det A| of a matrix that is not symmetric."""
    size, n = whole(rng, 2, 4), whole(rng, 1, 3)
    a = normal(rng, size, size, scale=0.5) + 2.0 * np.eye(size)
    data = {"left": normal(rng, n, size), "right": normal(rng, n, size)}
    return Function({"a": a}, data, _matrix_forward, _matrix_backward)


def _matrix_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    inverse = np.linalg.inv(p["a"])
    losses = (d["left"] * (d["right"] @ inverse.T)).sum(1)
    return losses + np.log(np.abs(np.linalg.det(p["a"]))) / len(losses), inverse


def _matrix_backward(p: Arrays, d: Arrays, inverse: Array, slip: str) -> Arrays:
    size = len(inverse)
    outer = d["left"].T @ d["right"]
    by = inverse if slip == "inverse not transposed" else inverse.T
    other = inverse if slip in ("inverse not transposed", "one side transposed") else inverse.T
    form = (1.0 if slip == "sign of the inverse" else -1.0) * by @ outer @ other
    logarithm = inverse if slip == "determinant's inverse not transposed" else inverse.T
    times = {
        "determinant's term forgotten": 0,
        "determinant once for every sample": len(d["left"]),
    }.get(slip, 1)
    da = form + times * logarithm
    if slip == "symmetric part alone":
        da = 0.5 * (da + da.T)
    if slip == "diagonal left out":
        da = da * (1.0 - np.eye(size, dtype=da.dtype))
    return {"a": np.triu(da) if slip == "upper triangle alone" else da}


SPECTRUM_SLIPS = (
    "conj of the filter forgotten",
    "conj of the transform forgotten",
    "conj of the spectrum forgotten",
    "2 forgotten",
    "real part of the spectrum alone",
    "imaginary part's sign",
    "logarithm's derivative forgotten",
    "lowest frequency left out",
    "1/n of the inverse transform",
    "filter of one sample",
)


def spectrum(rng: Draw) -> Function:
    """A filter in frequency space, log(1 + |F x · h|²), which computes with complex numbers internally."""
    n, size = whole(rng, 1, 3), whole(rng, 2, 6)
    parameters = {"x": normal(rng, n, size), "re": normal(rng, size), "im": normal(rng, size)}
    k = np.arange(size)
    angles = -2.0 * np.pi * np.outer(k, k) / size
    data = {"cos": np.cos(angles), "sin": np.sin(angles), "c": normal(rng, n, size)}
    return Function(parameters, data, _spectrum_forward, _spectrum_backward)


def _spectrum_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    transform = d["cos"] + 1j * d["sin"]
    h = p["re"] + 1j * p["im"]
    spectra = p["x"] @ transform.T if p["x"].dtype == transform.dtype else (p["x"] + 0j) @ transform.T
    y = spectra * h
    power = y.real**2 + y.imag**2
    return (d["c"] * np.log(1.0 + power)).sum(1), (transform, h, spectra, y, power)


def _spectrum_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    transform, h, spectra, y, power = saved
    bend = 1.0 if slip == "logarithm's derivative forgotten" else 1.0 / (1.0 + power)
    dy = (1.0 if slip == "2 forgotten" else 2.0) * d["c"] * bend * y
    if slip == "real part of the spectrum alone":
        dy = dy.real + 0j
    if slip == "lowest frequency left out":
        dy[:, 0] = 0.0
    dspectra = dy * (h if slip == "conj of the filter forgotten" else h.conj())
    dx = (dspectra @ (transform if slip == "conj of the transform forgotten" else transform.conj())).real
    dh = dy * (spectra if slip == "conj of the spectrum forgotten" else spectra.conj())
    dh = dh[0] if slip == "filter of one sample" else dh.sum(0)
    size = len(h) if slip == "1/n of the inverse transform" else 1
    return {"x": dx / size, "re": dh.real, "im": dh.imag * (-1 if slip == "imaginary part's sign" else 1)}


TRAJECTORY_SLIPS = (
    "step size forgotten",
    "last step left out",
    "first step left out",
    "adjoint not carried on",
    "Jacobian transposed",
    "Jacobian after the step",
    "start's gradient forgotten",
    "rates of the last step alone",
    "identity forgotten",
)


def trajectory(rng: Draw) -> Function:
    """A predator-prey model by Euler steps, and its adjoint."""
    steps = whole(rng, 3, 25)
    parameters = {"rates": rng.uniform(0.4, 1.2, 4), "start": rng.uniform(0.5, 1.5, 2)}
    data = {"goal": rng.uniform(0.5, 1.5, (steps, 2))}
    step = one_of(rng, (0.05, 0.1))
    return Function(
        parameters,
        data,
        lambda p, d: _trajectory_forward(p, d, step),
        lambda p, d, states, slip: _trajectory_backward(p, d, states, slip, step),
    )


def _trajectory_forward(p: Arrays, d: Arrays, step: float) -> tuple[Array, Any]:
    a, b, c, e = (p["rates"][k] for k in range(4))
    states = [p["start"]]
    for _ in range(len(d["goal"])):
        u, v = states[-1][0], states[-1][1]
        states.append(states[-1] + step * np.stack([a * u - b * u * v, c * u * v - e * v]))
    path = np.stack(states[1:])
    return ((path - d["goal"]) ** 2).sum(1), states


def _trajectory_backward(p: Arrays, d: Arrays, states: Any, slip: str, step: float) -> Arrays:
    a, b, c, e = (p["rates"][k] for k in range(4))
    rates, adjoint = np.zeros_like(p["rates"]), np.zeros_like(p["start"])
    factor = 1.0 if slip == "step size forgotten" else step
    steps = len(d["goal"])
    for t in reversed(range(steps)):
        adjoint = adjoint + 2.0 * (states[t + 1] - d["goal"][t])
        u, v = states[t + 1] if slip == "Jacobian after the step" else states[t]
        share = factor * np.stack([adjoint[0] * u, -adjoint[0] * u * v, adjoint[1] * u * v, -adjoint[1] * v])
        left_out = (slip == "last step left out" and t == steps - 1) or (
            slip == "first step left out" and t == 0
        )
        rates = share if slip == "rates of the last step alone" else rates + (0 if left_out else 1) * share
        jacobian = np.stack([np.stack([a - b * v, -b * u]), np.stack([c * v, c * u - e])])
        through = jacobian if slip == "Jacobian transposed" else jacobian.T
        carried = 0.0 * adjoint if slip == "identity forgotten" else adjoint
        adjoint = carried + step * (through @ adjoint)
        if slip == "adjoint not carried on" and t:
            adjoint = 0.0 * adjoint
    return {"rates": rates, "start": 0.0 * adjoint if slip == "start's gradient forgotten" else adjoint}


COSINE_SLIPS = (
    "norm held constant",
    "projection on the other vector",
    "norm forgotten",
    "norm squared",
    "sign of the projection",
    "upstream forgotten",
    "square's derivative forgotten",
    "one side alone",
)


def cosine(rng: Draw) -> Function:
    """Cosine similarities of normalised vectors."""
    n, size = whole(rng, 1, 4), whole(rng, 2, 5)
    parameters = {
        "left": normal(rng, n, size, scale=10.0 ** rng.uniform(-2, 2)),
        "right": normal(rng, n, size),
    }
    return Function(parameters, {"c": normal(rng, n)}, _cosine_forward, _cosine_backward)


def _cosine_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    norms = {name: ((value**2).sum(1) ** 0.5)[:, None] for name, value in p.items()}
    units = {name: p[name] / norms[name] for name in p}
    similarity = (units["left"] * units["right"]).sum(1)
    return d["c"] * (similarity + similarity**2), (norms, units, similarity)


def _cosine_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    norms, units, similarity = saved
    c = 1.0 if slip == "upstream forgotten" else d["c"]
    delta = (c * (1.0 if slip == "square's derivative forgotten" else 1.0 + 2.0 * similarity))[:, None]
    gradients = {}
    for name, other in (("left", "right"), ("right", "left")):
        along = units[other] if slip == "projection on the other vector" else units[name]
        sign = {"norm held constant": 0.0, "sign of the projection": -1.0}.get(slip, 1.0)
        power = {"norm forgotten": 0, "norm squared": 2}.get(slip, 1)
        gradients[name] = delta * (units[other] - sign * similarity[:, None] * along) / norms[name] ** power
    if slip == "one side alone":
        gradients["right"] = 0.0 * gradients["right"]
    return gradients


ZERO_SLIPS = (
    "shift gets the upstream",
    "scale gets the upstream",
    "norm held constant",
    "target not subtracted",
    "unused gets the upstream",
    "softmax's derivative once more",
)


def zeros(rng: Draw) -> Function:
    """Parameters without effect: a shift of all logits, a scale before a norm, and an unused parameter."""
    n, classes = whole(rng, 1, 4), whole(rng, 2, 5)
    return Function(
        {
            "v": normal(rng, n, classes),
            "scale": np.array(rng.uniform(0.5, 2.0)),
            "shift": normal(rng, n, 1),
            "unused": normal(rng, whole(rng, 1, 3)),
        },
        {"hot": np.eye(classes)[rng.integers(classes, size=n)]},
        _zeros_forward,
        _zeros_backward,
    )


def _zeros_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    scaled = p["v"] * p["scale"]
    norm = ((scaled**2).sum(1) ** 0.5)[:, None]
    z = 2.0 * scaled / norm + p["shift"]
    log_s = z - z.max(1)[:, None]
    log_s = log_s - np.log(np.exp(log_s).sum(1))[:, None]
    return -(d["hot"] * log_s).sum(1), (scaled, norm, np.exp(log_s))


def _zeros_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    scaled, norm, s = saved
    delta = s - (0.0 if slip == "target not subtracted" else d["hot"])
    if slip == "softmax's derivative once more":
        delta = delta * s * (1.0 - s)
    unit = scaled / norm
    held = 0.0 if slip == "norm held constant" else (delta * unit).sum(1)[:, None] * unit
    dscaled = 2.0 * (delta - held) / norm
    return {
        "v": dscaled * p["scale"],
        "scale": (delta * unit).sum() if slip == "scale gets the upstream" else (dscaled * p["v"]).sum(),
        "shift": s[:, :1] if slip == "shift gets the upstream" else delta.sum(1)[:, None],
        "unused": (1.0 if slip == "unused gets the upstream" else 0.0) * p["unused"],
    }
