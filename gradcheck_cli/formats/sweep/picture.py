"""A sweep as an .svg or .png picture, drawn by matplotlib."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.files.output import Output
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.numerical.schemes import plain_schemes
from gradcheck_cli.sweep.curve import Branch, Curve
from gradcheck_cli.sweep.sweep import Sweep

_METADATA = {".svg": {"Date": None}, ".png": {"Software": None}}
"""The metadata to write, by file suffix. They contain no date, so that the same sweep gives the same file."""

ENDINGS = tuple(_METADATA)

_MARKERS = "><oDs^vpPhHdX8"

_LOW, _HIGH = 3e-17, 3.0
"""The range that the error axis always covers, so that pictures of sweeps can be compared."""

_LARGEST, _SMALLEST = 7.0, 3.0
"""The sizes of the largest and the smallest marker.

Sizes shrink from scheme to scheme, so that no point is hidden.
"""


def refuse_unwritable(to: Output) -> None:
    """Raise an `InputError` if a picture cannot be drawn or written."""
    if _ending(to) not in ENDINGS:
        raise to.refused("is neither an .svg nor a .png", "the name must end in .svg or .png")
    to.refuse_file("a file is needed")
    _matplotlib("figure")


def save(to: Output, spec: str, sweep: Sweep) -> None:
    """Write the picture, completely or not at all, and replace any existing file.

    Raises `InputError` on failure.
    """
    refuse_unwritable(to)
    with (
        to.whole() as new,
        warnings.catch_warnings(),
        _matplotlib().rc_context({"svg.hashsalt": "gradcheck"}),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # the font may lack letters of a name
        format = _ending(to)
        _figure(spec, sweep).savefig(new, format=format[1:], dpi=150, metadata=_METADATA[format])


def _ending(to: Output) -> str:
    return Path(to.path).suffix.lower()


def _matplotlib(module: str = "") -> Any:
    try:
        return import_module(f"matplotlib.{module}".rstrip("."))
    except ImportError:
        message = "--save needs the package matplotlib, which is not installed"
        raise InputError(Complaint(message, help="pip install matplotlib")) from None


# --- the figure --------------------------------------------------------------------------------------------


def _figure(spec: str, sweep: Sweep) -> Any:
    figure = _matplotlib("figure").Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="step", ylabel="relative error")
    figure.suptitle(escaped(spec), parse_math=False)
    axes.set_title(f"{sweep.report.network}; {sweep.report.source}", fontsize="small", parse_math=False)
    _shade_kinks(axes, sweep)
    for curve in sweep.curves:
        _draw(axes, curve)
    if sweep.adaptive.error > 0:
        errors = [sweep.adaptive.error] * len(sweep.adaptive.steps)
        axes.plot(sweep.adaptive.steps, errors, "k*:", linewidth=0.7, label="adaptive: extrapolated")
    axes.set_ylim(min(axes.get_ylim()[0], _LOW), max(axes.get_ylim()[1], _HIGH))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", title="filled: truncation; hollow: rounding noise", title_fontsize="small")
    return figure


def _shade_kinks(axes: Any, sweep: Sweep) -> None:
    steps = [point.step for curve in sweep.curves for point in curve.on(Branch.KINK)]
    if steps:
        axes.axvspan(min(steps), max(steps), color="0.92", zorder=0, label="a kink is crossed")


def marker_of(scheme: str) -> str:
    """Return a scheme's marker, which is drawn filled on the truncation branch and hollow elsewhere."""
    return _MARKERS[plain_schemes().index(scheme) % len(_MARKERS)]


def _draw(axes: Any, curve: Curve) -> None:
    number = plain_schemes().index(curve.scheme)
    color, marker = f"C{number}", marker_of(curve.scheme)
    size = max(_LARGEST - number / 2, _SMALLEST)
    style = {"color": color, "linestyle": "", "markersize": size}
    known = [point for point in curve.points if point.branch is not None and point.error > 0]
    axes.plot([p.step for p in known], [p.error for p in known], color=color, linewidth=0.6, alpha=0.5)
    for branch, look in (
        (Branch.TRUNCATION, {"marker": marker, "label": _label(curve)}),
        (Branch.NOISE, {"marker": marker, "markerfacecolor": "none"}),
        (Branch.FLAT, {"marker": "_"}),
        (Branch.KINK, {"marker": "x"}),
    ):
        on = [point for point in known if point.branch is branch]
        axes.plot([point.step for point in on], [point.error for point in on], **style, **look)
    if curve.best and curve.best.error > 0 and curve.flat is None:
        axes.plot(curve.best.step, curve.best.error, "o", color=color, markersize=12, markerfacecolor="none")


def _label(curve: Curve) -> str:
    found = "no order found" if curve.order is None else f"order {curve.order:.2f}"
    if curve.flat is not None:
        found = f"stays at {curve.flat:.1e}"
    return f"{curve.scheme}: {found} (of {curve.expected})"
