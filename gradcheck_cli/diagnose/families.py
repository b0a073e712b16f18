"""The families of mistakes, with a description of the data that would reveal each family."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A group of kinds of mistakes.

    name: a name that scripts can rely on.
    shown_by: the data or parameters that would reveal a mistake of this family if the mistake has no effect
        on the current gradients. A single mistake may override this text.
    over_samples: whether the mistakes concern a sum or mean over samples. Such mistakes may not show in a
        batch of one sample.
    in_activation: whether the mistakes concern ∂a/∂z. Such mistakes change nothing with some activations.
    """

    name: str
    shown_by: str = "other data or parameters"
    over_samples: bool = False
    in_activation: bool = False


LARGER_EPS = "a larger eps, or values that differ less"
"""The settings or data needed to reveal a mistake in the eps of a normalisation."""

MORE_SAMPLES = "more than one sample"
"""The data needed to reveal a mistake in a sum or mean over samples."""

DERIVATIVE = Family(
    "activation derivative",
    "pre-activations on both sides of 0, and layers whose gradients are not 0",
    in_activation=True,
)
FORMULA = Family(
    "activation formula", "pre-activations on both sides of 0, and further from 0", in_activation=True
)
LOSS = Family("loss", "outputs further from their targets")
SCALE = Family("scale or reduction", over_samples=True)
ACCUMULATED = Family("accumulated")
SAMPLES = Family("samples", "samples that all contribute", over_samples=True)
BIAS = Family("bias reduction", over_samples=True)
PRODUCT = Family("wrong tensor")
TRANSPOSED = Family("transposed")
EARLY = Family("updated too early")
NORM = Family("batch norm", "a batch in which the pre-activations of each unit vary more", over_samples=True)
CONVOLUTION = Family("convolution")
PENALTY = Family("penalty", "larger parameters, or a stronger penalty")
ENTRIES = Family("entries", "gradients that are not 0")
PRECISION = Family("precision", "a gradient whose terms cancel more")
FUNCTION = Family("function")
SYMMETRIC = Family("symmetric matrix", "a gradient that is not symmetric")
OVERFLOWED = Family("overflow")
ANOTHER_NETWORK = Family("another network")
BRANCHES = Family("branches")
RESHAPE = Family("reshape")
LAYER_NORM = Family("layer norm", "samples in which the units differ more")
POOLING = Family("pooling", "windows that overlap, or in which the values differ more")
EMBEDDING = Family("embedding", "samples in which a token occurs several times, and padding")
SOFTMAX = Family("softmax", "rows in which the values differ more")
ATTENTION = Family("attention", "queries and keys that differ more")
GATES = Family("gates", "factors that differ more")
DROPOUT = Family("dropout", "a mask that drops some values and keeps others")
PRELU = Family("prelu", "inputs on both sides of 0, and a slope other than 0 and 1")
LOOPS = Family("loops", "more than one iteration of each loop")
GROUP_NORM = Family("group norm", "samples in which the groups differ more")
RMS_NORM = Family("rms norm", "samples in which the units differ more")
WEIGHT_NORM = Family("weight norm", "rows of v whose norms are not 1, and a g other than 1")
