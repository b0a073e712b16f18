"""The random networks of the diagnosis benchmark, and the mistakes planted in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
from build import units_for
from by_hand import Case, Gradients, by_hand
from mistakes import VISIBLE, Excuses
from plants import FAMILY_OF, KINDS, Plant, differ, draw, together
from random_networks import FAMILIES, Raw, problem_or_none, random_spec

from gradcheck_cli import Spec


def _larger(seed: int) -> Raw:
    """Draw a spec with 3 to 12 units per layer and 4 to 32 samples."""
    raw, rng = random_spec(seed, scale=None), np.random.default_rng(seed)
    for layer in raw["network"]["layers"]:
        layer["units"] = int(rng.integers(3, 13))
    raw["data"]["samples"] = int(rng.integers(4, 33))
    return raw


NETWORKS: Mapping[str, Callable[[int], Raw]] = {
    "plain": FAMILIES["plain"],
    "kinked": FAMILIES["kinked"],
    "batch-normed": FAMILIES["batch-normed"],
    "mildly scaled": lambda seed: random_spec(seed, scale=(-1, 1)),
    "larger": _larger,
}
OPTIONS: Mapping[str, Callable[[np.random.Generator], Raw]] = {
    "leaky_relu": lambda rng: {"negative_slope": float(rng.choice([0.01, 0.1, 0.2, 0.3]))},
    "elu": lambda rng: {"alpha": float(rng.choice([0.5, 1.0, 1.5]))},
    "gelu": lambda rng: {"approximate": str(rng.choice(["none", "tanh"]))},
}


def case_or_none(family: str, seed: int) -> Case | None:
    """Return the network, with the parts that some mistakes need; None if its loss is not finite."""
    raw = NETWORKS[family](seed)
    _furnish(raw, np.random.default_rng(seed))
    problem = problem_or_none(raw)
    return None if problem is None else Case(Spec.model_validate(raw), problem)


def _furnish(raw: Raw, rng: np.random.Generator) -> None:
    layers = raw["network"]["layers"]
    if "x" not in raw["data"]:  # explicit labels would fit no other network
        _shape(raw, rng)
        layers[-1]["units"] = units_for(raw["network"]["loss"], layers[-1]["units"])
    if rng.random() < 0.15 and raw["network"]["loss"]["name"] in ("mse", "l1", "huber"):
        layers[-1]["activation"] = "softmax"
    for layer in layers:
        name = layer["activation"]
        layer["activation"] = {"name": name, **OPTIONS.get(name, lambda rng: {})(rng)}
    _furnish_loss(raw["network"]["loss"], layers[-1]["units"], rng)
    strengths = [0.0, 0.0, 0.0, 1e-3, 1e-2]
    raw["network"]["penalty"] = {name: float(rng.choice(strengths)) for name in ("l1", "l2")}
    raw["network"]["penalty"]["biases"] = bool(rng.random() < 0.15)


def _shape(raw: Raw, rng: np.random.Generator) -> None:
    """Draw a spec with square weights, equal layers and as many samples as units, for mistakes in shapes."""
    layers, data = raw["network"]["layers"], raw["data"]
    if rng.random() < 0.4 and len(layers) > 1:
        i = int(rng.integers(1, len(layers)))
        layers[i]["units"] = layers[i - 1]["units"]
    if rng.random() < 0.2:
        layers[0]["units"] = raw["network"]["inputs"]
    if rng.random() < 0.2:
        data["samples"] = max(3, layers[int(rng.integers(len(layers)))]["units"])
    if rng.random() < 0.5:
        raw["parameters"]["bias"] = "same"


def _furnish_loss(loss: Raw, outputs: int, rng: np.random.Generator) -> None:
    if loss["name"] == "huber":
        loss["delta"] = float(rng.choice([0.3, 0.5, 1.0]))
    if loss["name"] == "cross_entropy":
        loss["label_smoothing"] = float(rng.choice([0.0, 0.1, 0.2]))
        if rng.random() < 0.5:
            loss["weight"] = [float(w) for w in rng.uniform(0.3, 3.0, size=outputs)]


# --- mistakes ----------------------------------------------------------------------------------------------


def planted(case: Case, seed: int, kinds: Collection[str]) -> Iterator[Plant]:
    """Return one visible mistake of each kind; each kind has its own random generator."""
    right = by_hand(case)
    excuses = Excuses(case.problem, right)
    for kind in kinds:
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        if FAMILY_OF[kind] == "precision":  # the verdict decides this one
            plant = draw(kind, case, rng, lambda wrong: differ(wrong, right, 1e-9))
        else:
            plant = draw(kind, case, rng, lambda wrong: not excuses.of(wrong))
        if plant is not None:
            yield plant


def pairs(
    case: Case, plants: list[Plant], rng: np.random.Generator, count: int
) -> Iterator[tuple[Plant, Plant, Gradients]]:
    """Return pairs of mistakes that can be planted together and both remain visible, with their gradients."""
    right = by_hand(case)
    excuses = Excuses(case.problem, right)
    for _ in range(count if len(plants) > 1 else 0):
        first, second = (plants[k] for k in rng.choice(len(plants), size=2, replace=False))
        edits = together(first, second)
        if edits is None:
            continue
        wrong = by_hand(case, edits)
        singly = [plant.gradients(case) for plant in (first, second)]
        if not excuses.of(wrong) and all(differ(wrong, each, VISIBLE) for each in singly):
            yield first, second, wrong
