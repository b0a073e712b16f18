"""Planted mistakes as a JSON object."""

from __future__ import annotations

from dataclasses import asdict

from gradcheck_cli.formats.json import document
from gradcheck_cli.formats.view import View
from gradcheck_cli.mutate.mutate import Mutation


def render(mutation: Mutation, view: View, spec: str) -> str:
    """Return the planted mistakes as a JSON object."""
    return document(
        mutation,
        spec=spec,
        network=mutation.network,
        loss_name=mutation.loss_name,
        verdict=mutation.right,
        applicable=mutation.applicable,
        planted=len(mutation.mutants),
        visible=len(mutation.visible),
        caught=mutation.caught,
        named=mutation.named,
        mistakes=[asdict(mutant) for mutant in mutation.mutants],
    )
