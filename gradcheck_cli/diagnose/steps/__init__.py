"""Known mistakes in the backward pass of each kind of step, one file per kind.

`variant.py` explains how to add one.
"""

from __future__ import annotations

from gradcheck_cli.diagnose.steps.batch_norm import BATCH_NORM, LAYER_NORM
from gradcheck_cli.diagnose.steps.conv2d import CONV2D
from gradcheck_cli.diagnose.steps.dense import DENSE
from gradcheck_cli.diagnose.steps.dropout import DROPOUT
from gradcheck_cli.diagnose.steps.embedding import EMBEDDING
from gradcheck_cli.diagnose.steps.gates import GATES
from gradcheck_cli.diagnose.steps.matmul import MATMUL
from gradcheck_cli.diagnose.steps.max_pool2d import MAX_POOL2D
from gradcheck_cli.diagnose.steps.pointwise import POINTWISE
from gradcheck_cli.diagnose.steps.pooling import POOLING
from gradcheck_cli.diagnose.steps.rearrange import REARRANGE
from gradcheck_cli.diagnose.steps.recurrent import RECURRENT
from gradcheck_cli.diagnose.steps.reshape import FLATTEN
from gradcheck_cli.diagnose.steps.rms_norm import RMS_NORM
from gradcheck_cli.diagnose.steps.rotary import ROTARY
from gradcheck_cli.diagnose.steps.softmax import SOFTMAX
from gradcheck_cli.diagnose.variant import Variant

VARIANTS: tuple[Variant, ...] = (
    *POINTWISE,
    *DENSE,
    *CONV2D,
    *BATCH_NORM,
    *LAYER_NORM,
    *RMS_NORM,
    *SOFTMAX,
    *MATMUL,
    *ROTARY,
    *GATES,
    *RECURRENT,
    *MAX_POOL2D,
    *POOLING,
    *EMBEDDING,
    *DROPOUT,
    *REARRANGE,
    *FLATTEN,
)
"""The mistakes of all kinds of steps. Within a kind, the most likely mistake comes first."""
