"""The mistakes of each kind of step, one file a kind; `variant.py` says how to add one."""

from __future__ import annotations

from gradcheck_cli.diagnose.steps.batch_norm import BATCH_NORM, LAYER_NORM
from gradcheck_cli.diagnose.steps.conv2d import CONV2D
from gradcheck_cli.diagnose.steps.dense import DENSE
from gradcheck_cli.diagnose.steps.pointwise import POINTWISE
from gradcheck_cli.diagnose.steps.reshape import FLATTEN
from gradcheck_cli.diagnose.variant import Variant

VARIANTS: tuple[Variant, ...] = (*POINTWISE, *DENSE, *CONV2D, *BATCH_NORM, *LAYER_NORM, *FLATTEN)
"""The mistakes of all kinds of steps, the likeliest of a kind first."""
