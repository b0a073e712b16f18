"""The parameters section of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.spec.arrays import ArrayFile
from gradcheck_cli.spec.model import Model, Positive, Seed, by_key, names_in_schema, one_of

_InitName = Annotated[str, one_of(INITIALISERS, "initialiser"), names_in_schema(INITIALISERS)]


class InitialisedParameters(Model):
    """Random parameters. First all weights are drawn, from input to output, and then the biases.

    init: The distribution of the weights.
    scale: The standard deviation for normal, the bound for uniform, and a factor for xavier and he.
    seed: The seed of the random number generator.
    bias: `zeros`, or `same` to draw biases like weights.
    """

    init: _InitName = "xavier"
    scale: Positive | None = None
    seed: Seed = 0
    bias: Literal["zeros", "same"] = "zeros"


class ParameterFile(ArrayFile):
    """Parameters from a file with one array per parameter."""


Parameters = Annotated[
    ParameterFile | InitialisedParameters, by_key({"file": ParameterFile, "init": InitialisedParameters})
]
