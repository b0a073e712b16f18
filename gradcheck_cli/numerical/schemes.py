"""The difference schemes, each as a row of data. The module `estimate` interprets the rows.

A scheme estimates a derivative as Re(Σ w f(x + o h)) / h with the step h, summed over the scheme's offsets o
and weights w. If the order of the scheme is p, Re Σ w oᵏ is 1 for k = 1, and 0 for all other k from 0 to p.
Steps are in units of `Movable.unit`. In a network, a step is the change of a pre-activation.

Sources: forward, backward, central and five-point are the classical stencils (Fornberg, "Generation of
finite difference formulas on arbitrarily spaced grids", Math. Comp. 51, 1988); the complex step is from
Squire and Trapp, SIAM Review 40 (1998); the extrapolation is from Ridders, Adv. Eng. Software 4 (1982).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scheme:
    """One difference scheme, as a row of data.

    name: the scheme's name in a spec.
    offsets, weights: the stencil: the offsets o and the weights w.
    order: the order p.
    step: the default step h; for an extrapolating scheme, the largest step of the ladder.
    ladder: the multiples of h at which to evaluate, largest first. A plain scheme evaluates at 9h, 3h and h,
        reports the estimate at h, and takes its error from the differences between the three.
    certify: the indices in `ladder` of the steps that suffice for an entry that agrees at once.
    extrapolate: whether to extrapolate to h → 0 (Richardson), in powers of h².
    cancels: whether the stencil subtracts nearly equal numbers, whose rounding errors become noise.
    to_the_sides: whether to look for kinks on both sides of a variable if the offsets are imaginary.
    """

    name: str
    offsets: tuple[complex, ...]
    weights: tuple[complex, ...]
    order: int
    step: float
    ladder: tuple[float, ...] = (9.0, 3.0, 1.0)
    certify: tuple[int, ...] = (0, 1, 2)
    extrapolate: bool = False
    cancels: bool = True
    to_the_sides: bool = True

    @property
    def escalates(self) -> bool:
        """Whether the scheme has further steps to try if the first steps do not agree."""
        return len(self.certify) < len(self.ladder)


_ROWS: tuple[Scheme, ...] = (
    # The ladder goes from ¼ to 2⁻³⁰. Six close rungs extrapolate smooth functions, where rounding is
    # smallest. Two rungs certify: there, truncation and rounding are about equal after extrapolation, few
    # kinks are crossed, and steps are short enough to reuse the unperturbed network. Three rungs are for
    # kinks and steep functions, and also show the noise.
    Scheme(
        "adaptive",
        offsets=(-1, 1), weights=(-1 / 2, 1 / 2), order=2, step=0.25,
        ladder=tuple(2.0**-k for k in (0, 1, 2, 3, 4, 5, 7, 9, 15, 21, 28)), certify=(6, 7),
        extrapolate=True,
    ),
    Scheme("forward", offsets=(0, 1), weights=(-1, 1), order=1, step=2.0**-26),
    Scheme("backward", offsets=(-1, 0), weights=(-1, 1), order=1, step=2.0**-26),
    Scheme("central", offsets=(-1, 1), weights=(-1 / 2, 1 / 2), order=2, step=2.0**-17),
    Scheme(
        "five-point",
        offsets=(-2, -1, 1, 2), weights=(1 / 12, -8 / 12, 8 / 12, -1 / 12), order=4, step=2.0**-10
    ),
    Scheme("complex", offsets=(1j,), weights=(-1j,), order=2, step=2.0**-66, cancels=False),
)  # fmt: skip

SCHEMES: Mapping[str, Scheme] = {row.name: row for row in _ROWS}

DEFAULT_SCHEME = "adaptive"


def escalated(scheme: Scheme) -> Scheme:
    """Return the scheme that checks again the entries that `scheme` calls wrong.

    A plain scheme takes its error from the differences between its three steps. Such an error means nothing
    if all three steps are far too large. So a gradient is called wrong only if the default scheme also finds
    it wrong.
    """
    return scheme if scheme.escalates else SCHEMES[DEFAULT_SCHEME]


_CLOSE_LADDER = tuple(2.0**-k for k in (*range(6), *range(6, 50, 2)))
"""A ladder so close that some steps suit any length on which a function curves.

The last steps show the noise, which is far smaller in wide floats.
"""


def in_wide_floats(scheme: Scheme, on_a_kink: bool = False) -> Scheme:
    """Return the scheme that checks again, in wider floats, the entries that `scheme` leaves undecided.

    The function may curve on a length that falls between two steps of the usual ladder, which are up to 128
    times apart. An example is a norm with a tiny eps next to 0.

    on_a_kink: whether any element lies on a kink to within the rounding of float64. Wide floats see on which
        side it is, so a step shorter than those of the usual ladder might not cross the kink.
    """
    usual = escalated(scheme)
    shortest = usual.ladder[-1] if on_a_kink else 0.0
    return replace(usual, ladder=tuple(step for step in _CLOSE_LADDER if step >= shortest))


def plain_schemes() -> tuple[str, ...]:
    """Return the names of the schemes that use a single step, without extrapolation."""
    return tuple(scheme.name for scheme in SCHEMES.values() if not scheme.extrapolate)
