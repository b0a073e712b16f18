"""A derivation as a JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gradcheck_cli.explain.derivation import Derivation, Explanation, Factor
from gradcheck_cli.formats.json import document, tensor_object
from gradcheck_cli.formats.view import View


def render(explanation: Explanation, view: View, spec: str) -> str:
    """Return the derivation as a JSON object."""
    return document(
        explanation,
        spec=spec,
        verdict=explanation.verdict,
        network=explanation.network,
        loss=explanation.loss,
        coefficient=explanation.coefficient,
        notes=explanation.notes,
        unusual=explanation.unusual,
        layers=[_derivation(derivation) for derivation in explanation.layers],
    )


def _derivation(derivation: Derivation) -> dict[str, Any]:
    return {
        "layer": derivation.layer,
        "kind": derivation.kind,
        "activation": derivation.activation,
        "above": derivation.above,
        "batch_norm": derivation.normalised,
        "input": derivation.takes,
        "output": derivation.gives,
        "definitions": [asdict(definition) for definition in derivation.definitions],
        "chain_rule": [asdict(link) for link in derivation.chain],
        "worked": [asdict(entry) for entry in derivation.worked],
        "factors": [_factor(factor) for factor in derivation.factors],
    }


def _factor(factor: Factor) -> dict[str, Any]:
    return {
        "symbol": factor.symbol,
        "formula": factor.formula,
        "origin": factor.origin,
        **tensor_object(factor.comparison),
    }
