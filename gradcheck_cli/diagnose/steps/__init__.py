"""Known mistakes in the backward pass of each kind of step, one file per kind.

`variant.py` explains how to add a mistake.
"""

from __future__ import annotations

from gradcheck_cli.diagnose.branches import lost_variants
from gradcheck_cli.diagnose.steps.biases import BIASES
from gradcheck_cli.diagnose.steps.changed_in_place import CHANGED_IN_PLACE
from gradcheck_cli.diagnose.steps.conv2d import CONV2D
from gradcheck_cli.diagnose.steps.conv_transpose2d import CONV_TRANSPOSE2D
from gradcheck_cli.diagnose.steps.dense import DENSE
from gradcheck_cli.diagnose.steps.drawn_again import DRAWN_AGAIN
from gradcheck_cli.diagnose.steps.dropout import DROPOUT
from gradcheck_cli.diagnose.steps.embedding import EMBEDDING
from gradcheck_cli.diagnose.steps.fixed_norm import FIXED_NORM
from gradcheck_cli.diagnose.steps.gates import GATES
from gradcheck_cli.diagnose.steps.learned_state import LEARNED_STATE
from gradcheck_cli.diagnose.steps.leaving_loops import LEAVING_LOOPS
from gradcheck_cli.diagnose.steps.matmul import MATMUL
from gradcheck_cli.diagnose.steps.max_pooling import MAX_POOLING
from gradcheck_cli.diagnose.steps.norm_terms import NORM_TERMS
from gradcheck_cli.diagnose.steps.normalise import NORM_VARIANTS
from gradcheck_cli.diagnose.steps.other_products import OTHER_PRODUCTS
from gradcheck_cli.diagnose.steps.pointwise import POINTWISE
from gradcheck_cli.diagnose.steps.pooling import POOLING
from gradcheck_cli.diagnose.steps.positional import POSITIONAL
from gradcheck_cli.diagnose.steps.prelu import PRELU
from gradcheck_cli.diagnose.steps.rearrange import REARRANGE
from gradcheck_cli.diagnose.steps.recurrent import RECURRENT, gates_in_other_orders
from gradcheck_cli.diagnose.steps.reshape import FLATTEN
from gradcheck_cli.diagnose.steps.residual import RESIDUAL
from gradcheck_cli.diagnose.steps.rms_norm import RMS_NORM
from gradcheck_cli.diagnose.steps.rotary import ROTARY
from gradcheck_cli.diagnose.steps.samples_as_vectors import SAMPLES_AS_VECTORS
from gradcheck_cli.diagnose.steps.softmax import SOFTMAX
from gradcheck_cli.diagnose.steps.states import STATES
from gradcheck_cli.diagnose.steps.weight_norm import WEIGHT_NORM
from gradcheck_cli.diagnose.variant import Pass, Variant

VARIANTS: tuple[Variant, ...] = (
    *POINTWISE,
    *DENSE,
    *CONV2D,
    *CONV_TRANSPOSE2D,
    *NORM_VARIANTS,
    *NORM_TERMS,
    *SAMPLES_AS_VECTORS,
    *FIXED_NORM,
    *RMS_NORM,
    *WEIGHT_NORM,
    *SOFTMAX,
    *MATMUL,
    *ROTARY,
    *GATES,
    *RECURRENT,
    *STATES,
    *OTHER_PRODUCTS,
    *CHANGED_IN_PLACE,
    *LEARNED_STATE,
    *MAX_POOLING,
    *POOLING,
    *EMBEDDING,
    *POSITIONAL,
    *PRELU,
    *DROPOUT,
    *DRAWN_AGAIN,
    *REARRANGE,
    *FLATTEN,
    *RESIDUAL,
    *LEAVING_LOOPS,
    *BIASES,
)
"""The mistakes of all kinds of steps. Within a kind of step, the most likely mistake comes first."""


def variants_of(at: Pass) -> tuple[Variant, ...]:
    """Return the mistakes of all steps, and those that depend on the connections of this graph."""
    return (*VARIANTS, *gates_in_other_orders(at), *lost_variants(at.graph.nodes))
