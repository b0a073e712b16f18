"""Value + rise is the value after the change, for every row that has a rise, over all of its range."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.functions import GELU_CUBE, GELU_SCALE, in_sigmoid_of_gelu
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.rise import EXPM1, LOG1P, TANH
from gradcheck_cli.types import EPS

SUBNORMAL = 5e-324
ENDS = (0.0, SUBNORMAL, 1e-310, 1e-300, 1e-8, 1.0, 18.0, 19.5, 36.0, 37.5, 700.0, 745.0)
LENGTHS = (SUBNORMAL, 1e-300, 2.0**-60, 2.0**-40, 2.0**-27, 2.0**-20, 2.0**-13, 2.0**-9, 2.0**-6, 0.1, 0.5)
ROUNDING = 4.0 * EPS
"""The error that a rise may have, relative to the terms that it is summed from: 4 units in the last place."""

VALUE_ULPS = {"gelu": 6.0}
"""The error that a value may have, in units in the last place, if more than 2. Φ(z) is a product of four."""

ACTIVATIONS_WITH_RISES = [
    *((name, {}) for name, row in ACTIVATIONS.items() if row.rise),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {"alpha": 0.5}),
    ("gelu", {"approximate": "tanh"}),
]
LOSSES_WITH_RISES = [
    *((name, {}) for name, row in LOSSES.items() if row.rise),
    ("bce_with_logits", {"pos_weight": 3.0}),
    ("bce_with_logits", {"pos_weight": [0.5, 3.0, 1.0, 2.0]}),
    ("huber", {"delta": 0.4}),
    ("smooth_l1", {"beta": 0.4}),
    ("multi_margin", {"p": 2, "margin": 0.7}),
    ("focal", {"alpha": -1.0, "gamma": 0.5}),
    ("focal", {"gamma": 0.0}),
]


@pytest.fixture
def mp():
    with mpmath.workdps(345):  # enough to add 5e-324 to 745
        yield mpmath.mp


def exactly(mp, name, z, options):
    """Return the activation of one number, in many digits."""
    alpha, slope = options.get("alpha", 1.0), options.get("negative_slope", 0.01)

    def by_tanh():
        return 1 / (1 + mp.exp(-2 * mp.mpf(GELU_SCALE) * (z + mp.mpf(GELU_CUBE) * z**3)))

    functions = {
        "identity": lambda: z,
        "sigmoid": lambda: 1 / (1 + mp.exp(-z)),
        "tanh": lambda: mp.tanh(z),
        "relu": lambda: max(z, mp.mpf(0)),
        "leaky_relu": lambda: z if z > 0 else mp.mpf(slope) * z,
        "elu": lambda: z if z > 0 else alpha * mp.expm1(z),
        "silu": lambda: z / (1 + mp.exp(-z)),
        "softplus": lambda: mp.log1p(mp.exp(z)),
        "gelu": lambda: z * (mp.ncdf(z) if options.get("approximate", "none") == "none" else by_tanh()),
    }
    return functions[name]()


def magnified(z, options):
    """Return by how much a gelu by tanh, z σ(u), magnifies the rounding errors of u where σ(u) is small."""
    u = in_sigmoid_of_gelu(z) if options.get("approximate") == "tanh" else np.zeros_like(z)
    return 3.0 * np.abs(np.minimum(u, 0.0))


def points(seed):
    """Return arguments and changes: each end of the range with some changes, and random numbers."""
    rng = np.random.default_rng(seed)
    ends = np.repeat([*ENDS, *(-end for end in ENDS)], 6)
    by = rng.choice(LENGTHS, len(ends)) * rng.choice([-1.0, 1.0], len(ends))
    scales = 2.0 ** rng.uniform(-45, -1, 60)
    at = np.concatenate([ends, rng.normal(scale=5.0, size=60)])
    return at, np.concatenate([by, scales * rng.uniform(-1, 1, 60)])


@pytest.mark.parametrize(("name", "options"), ACTIVATIONS_WITH_RISES, ids=str)
def test_value_plus_rise_is_the_value_after_the_change(name, options, mp):
    row = ACTIVATIONS[name].with_options(**options)
    z, d = points(seed=len(name))
    if row.pieces is not None:  # a rise stays on its piece
        same = row.pieces(z) == row.pieces(z + d)
        z, d = z[same], d[same]
    rises = np.array([one_rise(row, z[k : k + 1], d[k : k + 1]) for k in range(len(z))])
    assert np.isfinite(rises[np.abs(d) * np.maximum(1.0, z**2) <= 0.1]).all()
    sizes, value = row.rise.sizes(row.rise.at_rest(z)) * np.abs(d), row.value(z)
    rounded = magnified(z, options)
    for k in np.flatnonzero(np.isfinite(rises)):
        before, after = (exactly(mp, name, x, options) for x in (mp.mpf(z[k]), mp.mpf(z[k]) + mp.mpf(d[k])))
        lost = (4 + abs(z[k])) * SUBNORMAL  # where e^z underflows
        allowed = (ROUNDING + rounded[k] * EPS) * sizes[k] + lost
        assert abs(mp.mpf(rises[k]) - (after - before)) <= allowed, (z[k], d[k])
        of_value = (VALUE_ULPS.get(name, 2.0) + rounded[k]) * EPS * abs(after)
        assert abs(mp.mpf(value[k]) + mp.mpf(rises[k]) - after) <= of_value + allowed, (z[k], d[k])


def one_rise(row, z, d):
    """Return the rise of one number, so that the number of terms depends on its own change alone."""
    return row.rise.after(row.rise.at_rest(z), d.copy())[0]


def exact_loss(mp, name, a, target, options):
    """Return the loss of one sample, in many digits."""
    weights = np.broadcast_to(options.get("pos_weight", 1.0), len(a))
    log_sum = mp.log(sum(mp.exp(each) for each in a)) if name == "cross_entropy" else 0
    if name == "dice":
        smooth, p = mp.mpf(options.get("smooth", 1.0)), [1 / (1 + mp.exp(-x)) for x in a]
        overlap = 2 * mp.fsum(x * mp.mpf(y) for x, y in zip(p, target, strict=True)) + smooth
        return 1 - overlap / (mp.fsum(p) + mp.fsum(map(mp.mpf, target)) + smooth)
    if name in ("hinge", "multi_margin"):
        label, p, margin = int(target.argmax()), options.get("p", 1), mp.mpf(options.get("margin", 1.0))
        over = [max(mp.mpf(0), x - a[label] + margin) ** p for k, x in enumerate(a) if k != label]
        return mp.fsum(over) * (1 if name == "hinge" else mp.fsum(map(mp.mpf, target)) / len(a))
    if name == "kl_gaussian":
        return mp.fsum(m**2 + mp.exp(v) - 1 - v for m, v in zip(a[:2], a[2:], strict=True)) / 2
    if name == "gaussian_nll":
        at = [(m - mp.mpf(y), max(v, mp.mpf(1e-6))) for m, v, y in zip(a[:2], a[2:], target, strict=False)]
        return mp.fsum(mp.log(v) + e**2 / v for e, v in at) / 2
    delta, beta = mp.mpf(options.get("delta", 1.0)), mp.mpf(options.get("beta", 1.0))
    alpha, gamma = mp.mpf(options.get("alpha", 0.25)), mp.mpf(options.get("gamma", 2.0))

    def focal(x, y):
        q, bce = (
            (1 - y) / (1 + mp.exp(-x)) + y / (1 + mp.exp(x)),
            (1 - y) * mp.log1p(mp.exp(x)) + y * mp.log1p(mp.exp(-x)),
        )
        return (alpha * y + (1 - alpha) * (1 - y) if alpha >= 0 else 1) * q**gamma * bce

    def huber(e, delta):
        return e**2 / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2)

    terms = {
        "l1": lambda x, y, w: abs(x - y),
        "huber": lambda x, y, w: huber(x - y, delta),
        "smooth_l1": lambda x, y, w: huber(x - y, beta) / beta,
        "focal": lambda x, y, w: focal(x, y),
        "mse": lambda x, y, w: (x - y) ** 2,
        "cross_entropy": lambda x, y, w: y * (log_sum - x),
        "bce_with_logits": lambda x, y, w: (1 - y) * mp.log1p(mp.exp(x)) + w * y * mp.log1p(mp.exp(-x)),
        "dot": lambda x, y, w: y * x,
        "nll": lambda x, y, w: -y * x,
        "kl_div": lambda x, y, w: -y * x,  # y log y does not change
        "poisson_nll": lambda x, y, w: mp.exp(x) - y * x,
    }[name]
    return sum(terms(x, mp.mpf(y), mp.mpf(w)) for x, y, w in zip(a, target, weights, strict=True))


@pytest.mark.parametrize("scale", [1.0, 8.0, 300.0])
@pytest.mark.parametrize(("name", "options"), LOSSES_WITH_RISES, ids=str)
def test_the_rise_of_a_loss_is_exact_to_the_last_places_of_its_terms(name, options, scale, mp):
    row, rng = LOSSES[name].with_options(**options), np.random.default_rng(len(name) + int(scale))
    a = rng.integers(-64, 64, (20, 4)) * (scale / 64.0)  # so that differences of outputs are exact
    hot = np.eye(4)[rng.integers(0, 4, 20)]
    target = np.where(
        (rng.random((20, 1)) < 0.6) | (row.target == "labels"), hot, rng.dirichlet(np.ones(4), 20)
    )
    d = rng.uniform(-0.25, 0.25, a.shape) * 2.0 ** -rng.integers(0, 50, (20, 1))
    d *= np.where(
        rng.random((20, 1)) < 0.4, np.eye(4)[rng.integers(0, 4, 20)], 1.0
    )  # sometimes only one changes
    if row.pieces is not None:  # a rise stays on its pieces
        same = (row.pieces(a, target) == row.pieces(a + d, target)).all(axis=-1)
        a, d, target = a[same], d[same], target[same]
    at_rest = row.rise.at_rest(a, target)
    sizes = (row.rise.sizes(at_rest) * np.abs(d)).sum(axis=-1)
    rises = row.rise.after(at_rest, d.copy())
    for n in range(len(a)):
        outputs = [mp.mpf(x) for x in a[n]]
        moved = [x + mp.mpf(by) for x, by in zip(outputs, d[n], strict=True)]
        before, after = (exact_loss(mp, name, each, target[n], options) for each in (outputs, moved))
        allowed = ROUNDING * sizes[n] + EPS * (d[n] ** 2).sum()  # the term d² of a square
        assert abs(mp.mpf(rises[n]) - (after - before)) <= allowed + SUBNORMAL, (a[n], d[n], target[n])


@pytest.mark.parametrize("series", [TANH, EXPM1, LOG1P], ids=lambda series: series.function.__name__)
def test_a_series_has_enough_terms_for_its_longest_argument(series, mp):
    exact = {np.tanh: mp.tanh, np.expm1: mp.expm1, np.log1p: mp.log1p}[series.function]
    for up_to, _ in series.terms:
        for d in (up_to, -up_to, 0.7 * up_to, np.nextafter(up_to, 1.0)):
            assert abs(series(np.array([d]))[0] / exact(mp.mpf(d)) - 1) <= 1.5 * EPS


def test_the_rise_after_a_long_change_is_unknown():
    d = np.array([1e-3, 0.6, -0.6, np.inf, np.nan])
    rise = ACTIVATIONS["tanh"].rise
    risen = rise.after(rise.at_rest(np.zeros(5)), d.copy())
    np.testing.assert_array_equal(np.isnan(risen), [False, True, True, True, True])


@pytest.mark.parametrize("name", [name for name, _ in ACTIVATIONS_WITH_RISES])
def test_rises_are_those_of_the_row_in_any_number_at_once(name):
    row, rng = ACTIVATIONS[name].with_options(), np.random.default_rng(3)
    z, d = rng.normal(size=(4, 5)), 2.0**-10 * rng.normal(size=(3, 4, 5))
    d = np.where(row.pieces(z + d) == row.pieces(z), d, 0.0) if row.pieces else d
    risen = row.rise.after(row.rise.at_rest(z), d.copy())
    np.testing.assert_allclose(risen, row.value(z + d) - row.value(z), rtol=1e-10, atol=1e-15)
