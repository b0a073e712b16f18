"""Diagnose code by the network that the spec describes, or by a known layer that computes the same."""

from __future__ import annotations

from collections.abc import Sequence

from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.known_layers.recognise import diagnose_layer


def diagnosis_by_network(
    function: Function, inputs: Inputs, loss: float | None, comparisons: Sequence[Comparison]
) -> Diagnosis | None:
    """Return a diagnosis based on the network that the code implements; None if no network is known.

    loss: the loss that the code returned, if it returns one.
    """
    problem = inputs.problem
    if problem is not None:
        return diagnose(comparisons, problem, False, function.samples, loss=loss)
    return diagnose_layer(function.calls, comparisons)
