"""All known mistakes, by the step that they replace.

To add a mistake, add a row to the table of its topic.
"""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.diagnose.families import ENTRIES, OVERFLOWED, PRODUCT, SCALE
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.site import TENSORS, Part
from gradcheck_cli.diagnose.wrong_activations import DROPPED_MISTAKES, FLAT_SPOT, MISPLACED_MISTAKES
from gradcheck_cli.diagnose.wrong_biases import BIAS_MISTAKES
from gradcheck_cli.diagnose.wrong_convolutions import CONVOLUTION_MISTAKES
from gradcheck_cli.diagnose.wrong_formulas import FORMULA_MISTAKES
from gradcheck_cli.diagnose.wrong_handed_down import HANDED_DOWN_MISTAKES
from gradcheck_cli.diagnose.wrong_losses import LOGIT_MISTAKES, OTHER_LOSS_MISTAKES
from gradcheck_cli.diagnose.wrong_margins import MARGIN_MISTAKES
from gradcheck_cli.diagnose.wrong_norms import NORM_MISTAKES
from gradcheck_cli.diagnose.wrong_penalties import PAIRED_PENALTY_MISTAKES, PENALTY_MISTAKES
from gradcheck_cli.diagnose.wrong_precision import ROUNDED_AWAY
from gradcheck_cli.diagnose.wrong_samples import (
    SAMPLE_MISTAKES,
    SOME_OF_LOSS,
    SOME_OF_TENSOR,
    SUBSET_MISTAKES,
)
from gradcheck_cli.diagnose.wrong_scales import SCALED
from gradcheck_cli.diagnose.wrong_slips import SLIP_MISTAKES
from gradcheck_cli.diagnose.wrong_sums import SUM_MISTAKES
from gradcheck_cli.diagnose.wrong_targets import CLASS_MISTAKES, ENTRY_MISTAKES, TARGET_MISTAKES
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES, ZERO
from gradcheck_cli.diagnose.wrong_vectors import VECTOR_MISTAKES

_STEPS: tuple[Mistake, ...] = (
    *MISPLACED_MISTAKES,
    SCALED,
    *FORMULA_MISTAKES,
    FLAT_SPOT,
    *LOGIT_MISTAKES,
    *TARGET_MISTAKES,
    *MARGIN_MISTAKES,
    *CLASS_MISTAKES,
    *ENTRY_MISTAKES,
    *VECTOR_MISTAKES,
    *SLIP_MISTAKES,
    *OTHER_LOSS_MISTAKES,
    *SAMPLE_MISTAKES,
    *DROPPED_MISTAKES,
    *CONVOLUTION_MISTAKES,
    *BIAS_MISTAKES,
    *SUM_MISTAKES,
    *SUBSET_MISTAKES,
    *HANDED_DOWN_MISTAKES,
    *NORM_MISTAKES,
)

MISTAKES: Mapping[Part, tuple[Mistake, ...]] = {
    part: tuple(mistake for mistake in _STEPS if mistake.part is part) for part in Part
}
"""The wrong steps, by the part of a layer's backprop that they replace."""

TENSOR_FACTOR = Wrong(
    SCALED.kind, SCALE, SCALED.sentence, SCALED.wrong, SCALED.right, "", "factor", freedom=SCALED.freedom
)
"""The mistake of multiplying a single tensor's gradient by a factor."""

CLIPPED = Wrong(
    "clipped by norm",
    ENTRIES,
    "the gradient of {tensor} is scaled to a norm of {value}, as in gradient clipping",
    "∂L · {value} / ‖∂L‖",
    "∂L",
    unknown="norm",
)
"""The mistake of clipping one tensor's gradient by its own norm."""

SWAPPED = Wrong(
    "tensors swapped",
    PRODUCT,
    "the gradient of {tensor} equals that of {place}",
    "",
    "",
    code="dL_db, dL_db_h = dL_db_h, dL_db",
)
"""The mistake of returning one tensor's gradient in place of another's."""

TENSOR_KINDS = frozenset(
    wrong.kind
    for wrong in (
        *(mistake for part in TENSORS for mistake in MISTAKES[part]),
        *PENALTY_MISTAKES,
        *(TENSOR_FACTOR, CLIPPED, SWAPPED, SOME_OF_TENSOR),
        *TENSOR_MISTAKES,
    )
)
"""The kinds of mistakes that affect a single tensor."""

ALL_ZERO = Wrong(
    ZERO.kind,
    ENTRIES,
    "every gradient is 0: backward never ran, or the gradients were set to 0 afterwards, as zero_grad does, "
    "or the arrays were never filled",
    "0",
    "as computed",
)
"""The mistake of returning 0 for all gradients at once. No wrong formula explains this."""

OVERFLOW = Wrong(
    "overflow",
    OVERFLOWED,
    "the gradient of {tensor} has {place}",
    "",
    "",
    code="delta_h = dL_da_h * np.exp(z_h) / (1 + np.exp(z_h))",
)

PLANTABLE: tuple[Wrong, ...] = (
    *(step for step in _STEPS if not step.alike),
    *PENALTY_MISTAKES,
    *(wrong for wrong in TENSOR_MISTAKES if wrong is not ROUNDED_AWAY),  # it explains nothing alone
)
"""The mistakes that can be planted in our own backprop."""

LIKELY: tuple[Wrong, ...] = (
    SWAPPED,
    ZERO,
    *_STEPS,
    *PENALTY_MISTAKES,
    *PAIRED_PENALTY_MISTAKES,
    ALL_ZERO,
    TENSOR_FACTOR,
    CLIPPED,
    SOME_OF_LOSS,
    SOME_OF_TENSOR,
    *TENSOR_MISTAKES,
    OVERFLOW,
)
"""All mistakes in a chain of layers, with the likeliest first."""

ORDER: Mapping[int, int] = {id(wrong): k for k, wrong in reversed(list(enumerate(LIKELY)))}
"""Maps the id of each mistake to its rank by prior likelihood, which is its position in `LIKELY`."""
