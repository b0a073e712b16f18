"""All kinds of functions: how to draw a function of each kind, and the mistakes planted in its backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from kinds import attention, dense, formulas, images, kinks, norms, recurrent
from kinds.function import Draw
from kinds.subjects import Subject, in_python


@dataclass(frozen=True)
class Precision:
    """A type, and the error from which a gradient in it is clearly wrong, relative to its largest entry."""

    name: str
    visible: float


DOUBLE, SINGLE, HALF = Precision("float64", 1e-4), Precision("float32", 1e-2), Precision("half", 0.1)


@dataclass(frozen=True)
class Kind:
    name: str
    precision: Precision
    make: Callable[[Draw], Subject]
    slips: tuple[str, ...]


NUMPY: tuple[Kind, ...] = tuple(
    Kind(name, DOUBLE, in_python(make, np.float64), slips)
    for name, make, slips in (
        ("dense", dense.dense, dense.DENSE_SLIPS),
        ("badly scaled", dense.badly_scaled, dense.UNPENALISED_SLIPS),
        ("large loss", dense.large_loss, dense.DENSE_SLIPS),
        ("cross-entropy", dense.cross_entropy, dense.ENTROPY_SLIPS),
        ("conv", images.conv, images.CONV_SLIPS),
        ("max pool", images.max_pool, images.MAX_POOL_SLIPS),
        ("max pool, ties", images.max_pool_ties, images.TIED_SLIPS),
        ("average pool", images.average_pool, images.AVERAGE_POOL_SLIPS),
        ("batch norm", norms.batch_norm, norms.BATCH_NORM_SLIPS),
        ("layer norm", norms.layer_norm, norms.LAYER_NORM_SLIPS),
        ("group norm", norms.group_norm, norms.GROUP_NORM_SLIPS),
        ("RMS norm", norms.rms_norm, norms.RMS_NORM_SLIPS),
        ("attention", attention.attention, attention.ATTENTION_SLIPS),
        ("embedding", attention.embedding, attention.EMBEDDING_SLIPS),
        ("rnn", recurrent.rnn, recurrent.RNN_SLIPS),
        ("lstm", recurrent.lstm, recurrent.LSTM_SLIPS),
        ("gru", recurrent.gru, recurrent.GRU_SLIPS),
        ("relu", kinks.relu, kinks.RELU_SLIPS),
        ("dead relu", kinks.dead_relu, kinks.RELU_SLIPS),
        ("on a kink", kinks.on_a_kink, kinks.ONE_RELU_SLIPS),
        ("hinge", kinks.hinge, kinks.HINGE_SLIPS),
        ("robust losses", kinks.robust, kinks.ROBUST_SLIPS),
        ("domain edges", formulas.likelihood, formulas.LIKELIHOOD_SLIPS),
        ("scalars", formulas.wave, formulas.WAVE_SLIPS),
        ("matrix", formulas.matrix, formulas.MATRIX_SLIPS),
        ("complex inside", formulas.spectrum, formulas.SPECTRUM_SLIPS),
        ("trajectory", formulas.trajectory, formulas.TRAJECTORY_SLIPS),
        ("cosine", formulas.cosine, formulas.COSINE_SLIPS),
        ("exact zeros", formulas.zeros, formulas.ZERO_SLIPS),
    )
)

NARROW: tuple[Kind, ...] = tuple(
    Kind(f"{name}, {np.dtype(dtype)}", precision, in_python(make, dtype), slips)
    for name, make, slips, dtype, precision in (
        ("dense", dense.dense, dense.DENSE_SLIPS, np.float32, SINGLE),
        ("cross-entropy", dense.cross_entropy, dense.ENTROPY_SLIPS, np.float32, SINGLE),
        ("conv", images.conv, images.CONV_SLIPS, np.float32, SINGLE),
        ("layer norm", norms.layer_norm, norms.LAYER_NORM_SLIPS, np.float32, SINGLE),
        ("attention", attention.attention, attention.ATTENTION_SLIPS, np.float32, SINGLE),
        ("lstm", recurrent.lstm, recurrent.LSTM_SLIPS, np.float32, SINGLE),
        ("relu", kinks.relu, kinks.RELU_SLIPS, np.float32, SINGLE),
        ("dense", dense.dense, dense.DENSE_SLIPS, np.float16, HALF),
        ("cross-entropy", dense.cross_entropy, dense.ENTROPY_SLIPS, np.float16, HALF),
        ("rnn", recurrent.rnn, recurrent.RNN_SLIPS, np.float16, HALF),
        ("RMS norm", norms.rms_norm, norms.RMS_NORM_SLIPS, np.float16, HALF),
    )
)


def _torch_kinds() -> tuple[Kind, ...]:
    if find_spec("torch") is None:
        return ()
    import torch

    from kinds import torch_modules as modules
    from kinds.torch_code import SQUARES, SUMS, in_torch
    from kinds.torch_inside import INSIDE_SLIPS, inside

    double, single = torch.float64, torch.float32
    return (
        Kind("torch", DOUBLE, in_torch(modules.Layers, double, SQUARES), modules.LAYERS_SLIPS),
        Kind("torch, float32", SINGLE, in_torch(modules.Layers, single, SQUARES), modules.LAYERS_SLIPS),
        Kind("torch, plain sum", DOUBLE, in_torch(modules.Plain, double, SUMS), modules.PLAIN_SLIPS),
        Kind("torch, complex128", DOUBLE, in_torch(modules.Filter, double, SQUARES), modules.FILTER_SLIPS),
        Kind("torch, complex64", SINGLE, in_torch(modules.Filter, single, SQUARES), modules.FILTER_SLIPS),
        Kind("torch.nn", DOUBLE, in_torch(modules.Stock, double, SQUARES), ()),
        Kind("torch.nn, float32", SINGLE, in_torch(modules.Stock, single, SQUARES), ()),
        Kind("autograd inside, float32", SINGLE, inside(torch.float32), INSIDE_SLIPS),
        Kind("autograd inside, bfloat16", HALF, inside(torch.bfloat16), INSIDE_SLIPS),
        Kind("autograd inside, float16", HALF, inside(torch.float16), INSIDE_SLIPS),
    )


KINDS: dict[str, Kind] = {kind.name: kind for kind in (*NUMPY, *NARROW, *_torch_kinds())}
