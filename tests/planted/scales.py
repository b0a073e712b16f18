"""Gradients that are off by a factor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from by_hand import (
    Case,
    Edit,
)
from planted import activations
from planted.plant import Plant, Rng


def _times(kind: str, case: Case, f: float, also: Iterable[str] = ()) -> Plant:
    """Multiply the loss's part of every gradient by f."""
    coefficient = f * float(case.problem.network.coefficient)
    edit = Edit("coefficient", None, lambda p, at, rng: coefficient)
    return Plant(kind, "the loss", (edit,), frozenset(also), whole=True)


def _all_times(kind: str, case: Case, f: float) -> Plant:
    """Multiply every gradient by f, penalties included."""
    names = case.problem.network.shapes
    edits = (Edit("result", name, lambda p, at, rng: f * p.gradient(at)) for name in names)
    return Plant(kind, "penalty and all", tuple(edits), whole=True)


def _tensors_times(kind: str, case: Case, rng: Rng, f: float, of: Iterable[str] = ()) -> Iterator[Plant]:
    """Multiply one tensor's product or sum by f, but not its penalty."""
    parts = list(of) or ["weight", "bias"]
    variants = {
        f"{part} alone": {
            part: lambda p, i, rng, part=part: f * p.right_gradient(f"{p.layers[i].name}.{part}")
        }
        for part in parts
    }
    return activations.in_layers(kind, case, rng, variants)


def _delta_times(kind: str, case: Case, rng: Rng, f: float) -> Iterator[Plant]:
    """Multiply a hidden layer's δ by f, and therefore all gradients of the layers below."""
    if len(case.layers) > 1:
        i = int(rng.integers(len(case.layers) - 1))
        yield Plant(kind, "δ", (Edit("delta", i, lambda p, i, rng: f * p.delta[i]),))


def everywhere_times(kind: str, case: Case, rng: Rng, f: float) -> Iterator[Plant]:
    yield _times(kind, case, f)
    yield from _delta_times(kind, case, rng, f)
    yield from _tensors_times(kind, case, rng, f)


def _per_output(case: Case) -> bool:
    return case.problem.network.loss.per_output


def missing_n(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    if case.loss.reduction != "sum":
        weighted = case.loss.weight is not None
        outputs = case.layers[-1].units if case.loss.reduction == "mean" and _per_output(case) else 1
        total = case.loss.scale / outputs / float(case.problem.network.coefficient)
        yield _times(kind, case, total, ["factor"] if weighted else [])
        if not weighted:
            yield from _tensors_times(kind, case, rng, total)


def n_twice(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    """Divide by N, even if the loss is a sum over the samples."""
    yield _times(kind, case, 1.0 / case.samples)
    yield from _tensors_times(kind, case, rng, 1.0 / case.samples, ["weight"])


def missing_c(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    if case.loss.reduction == "mean" and _per_output(case):
        yield _times(kind, case, float(case.layers[-1].units))


def c_twice(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    """Divide by C, even if the loss takes no mean over the outputs."""
    yield _times(kind, case, 1.0 / case.layers[-1].units)


def sign(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    yield _all_times(kind, case, -1.0)
    yield from everywhere_times(kind, case, rng, -1.0)


def factor(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    f = float(10 ** rng.uniform(-1.5, 1.5))
    yield _all_times(kind, case, f)
    yield from everywhere_times(kind, case, rng, f)


def accumulated(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    times = float(rng.integers(3, 10))
    yield _all_times(kind, case, times)
    yield _times(kind, case, times)
