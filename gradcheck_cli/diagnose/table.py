"""All mistakes, by the step that they replace. To add one, write its row in the table it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.wrong_activations import ACTIVATION_MISTAKES
from gradcheck_cli.diagnose.wrong_losses import LOSS_MISTAKES
from gradcheck_cli.diagnose.wrong_penalties import PENALTY_MISTAKES
from gradcheck_cli.diagnose.wrong_scales import SCALE, SCALED
from gradcheck_cli.diagnose.wrong_sums import PRODUCT, SUM_MISTAKES
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES

_STEPS: tuple[Mistake, ...] = (SCALED, *ACTIVATION_MISTAKES, *LOSS_MISTAKES, *SUM_MISTAKES)

MISTAKES: Mapping[Part, tuple[Mistake, ...]] = {
    part: tuple(mistake for mistake in _STEPS if mistake.part is part) for part in Part
}
"""The wrong steps by the step of a layer that they replace."""

TENSOR_FACTOR = Wrong("factor", SCALE, SCALED.sentence, SCALED.wrong, SCALED.right, "", "factor")
"""A factor on one tensor alone."""

SWAPPED = Wrong("tensors swapped", PRODUCT, "{tensor} holds the gradient of {place}", "", "")
"""One tensor's gradient in another's place."""

OVERFLOW = Wrong("overflow", "overflow", "{tensor} has {place}", "", "")

PLANTABLE: tuple[Wrong, ...] = (*_STEPS, *PENALTY_MISTAKES, *TENSOR_MISTAKES)
"""What can be planted in a backprop of ours."""

ORDER: Mapping[int, int] = {
    id(wrong): k
    for k, wrong in enumerate(
        (*_STEPS, *PENALTY_MISTAKES, TENSOR_FACTOR, SWAPPED, *TENSOR_MISTAKES, OVERFLOW)
    )
}
"""How likely a mistake is before anything is known, by where its row stands."""
