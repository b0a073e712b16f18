"""Other tools' ways to check the gradient of a dense network, one function per tool.

Each function takes a `Dense` and returns a second function. That one takes the entries to check (flat
indices), and returns the derivatives of the total loss for these entries. The one for torch returns whether
torch's own check passed. All compute in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
Entries = Callable[[Array], Array]

STEP = 1e-5
"""The step of plain central differences in a parameter."""

JAX_BYTES = 2**22
"""The size of the perturbed parameters in one vmapped batch. 32 MiB proved three times as slow."""


@dataclass(frozen=True)
class Dense:
    """A dense network with its parameters in one vector, and its data.

    flat: w (out, in) and b (out,) of every layer from the input up, (P,).
    L = coefficient · Σₙ ℓ(aₙ, targetₙ) with x (N, in), target (N, C).
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    coefficient: float
    flat: Array
    x: Array
    target: Array

    @property
    def entries(self) -> int:
        return len(self.flat)

    @property
    def biases(self) -> int:
        """The number of entries that are biases."""
        return sum(self.widths[1:])

    def tensors(self, flat: Any) -> list[Any]:
        """Return w, b, w, b, … from the input up, as views of a vector (P,) of any library."""
        tensors, start = [], 0
        for inputs, units in pairwise(self.widths):
            tensors.append(flat[start : start + units * inputs].reshape(units, inputs))
            start += units * inputs
            tensors.append(flat[start : start + units])
            start += units
        return tensors


def dense(problem: Problem, loss: str) -> Dense:
    """Return the problem in the form that the other tools get, without penalties and batch normalisation."""
    layers = problem.network.layers
    return Dense(
        (layers[0].inputs, *(layer.units for layer in layers)),
        tuple(layer.activation.name for layer in layers),
        loss,
        problem.network.coefficient,
        flattened(problem, problem.parameters),
        problem.x,
        problem.target,
    )


def flattened(problem: Problem, arrays: Mapping[str, Array]) -> Array:
    """Return arrays by parameter name as one vector in the order of `Dense.flat`, (P,)."""
    names = [name for layer in problem.network.layers for name in (layer.weight, layer.bias)]
    return np.concatenate([arrays[name].ravel() for name in names])


# --- numpy and scipy ---------------------------------------------------------------------------------------


def _softmax_cross_entropy(z: Array, target: Array) -> Array:
    shifted = z - z.max(axis=1, keepdims=True)
    return (target * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)).sum()


NUMPY: dict[str, Callable[..., Any]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "mse": lambda a, target: ((a - target) ** 2).sum(),
    "cross_entropy": _softmax_cross_entropy,
}


def numpy_loss(net: Dense, tensors: list[Array]) -> float:
    """Return L by a full forward pass."""
    a = net.x
    for w, b, activation in zip(tensors[::2], tensors[1::2], net.activations, strict=True):
        a = NUMPY[activation](a @ w.T + b)
    return net.coefficient * float(NUMPY[net.loss](a, net.target))


def numpy_one_by_one(net: Dense) -> Entries:
    """Use the loop of the textbooks, with two full forward passes for every entry."""
    flat = net.flat.copy()
    tensors = net.tensors(flat)

    def run(which: Array) -> Array:
        slopes = np.empty(len(which))
        for n, i in enumerate(which):
            rest = flat[i]
            flat[i] = rest + STEP
            above = numpy_loss(net, tensors)
            flat[i] = rest - STEP
            slopes[n] = (above - numpy_loss(net, tensors)) / (2.0 * STEP)
            flat[i] = rest
        return slopes

    return run


def scipy_differences(net: Dense, method: str) -> Entries:
    """Use scipy.optimize's approx_derivative, with method ``2-point`` or ``3-point``.

    If all entries are checked, scipy copies the whole vector at every evaluation. If only a sample is
    checked, this function makes those copies, so that the time per entry stays comparable.
    """
    from scipy.optimize._numdiff import approx_derivative

    def loss(values: Array) -> float:
        return numpy_loss(net, net.tensors(values))

    def run(which: Array) -> Array:
        def loss_of_sample(values: Array) -> float:
            flat = net.flat.copy()
            flat[which] = values
            return loss(flat)

        in_order = np.array_equal(which, np.arange(net.entries))
        return approx_derivative(loss if in_order else loss_of_sample, net.flat[which], method=method)

    return run


# --- torch -------------------------------------------------------------------------------------------------


def torch_loss(net: Dense) -> Callable[..., Any]:
    """Return L as a scalar function of the tensors w, b, w, b, …."""
    import torch

    functional = torch.nn.functional
    table: dict[str, Callable[..., Any]] = {
        "identity": lambda z: z,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "mse": lambda a, y: functional.mse_loss(a, y, reduction="sum"),
        "cross_entropy": lambda a, y: functional.cross_entropy(a, y, reduction="sum"),
    }
    x, y = torch.tensor(net.x), torch.tensor(net.target)
    activations = [table[name] for name in net.activations]

    def loss(*tensors: Any) -> Any:
        a = x
        for w, b, activation in zip(tensors[::2], tensors[1::2], activations, strict=True):
            a = activation(functional.linear(a, w, b))
        return net.coefficient * table[net.loss](a, y)

    return loss


def torch_tensors(net: Dense) -> list[Any]:
    import torch

    return [torch.tensor(value, requires_grad=True) for value in net.tensors(net.flat)]


def torch_gradcheck(net: Dense, fast: bool, tolerance: float = 1e-3) -> Callable[[int], bool]:
    """Use torch.autograd.gradcheck on all entries, or on this many of the biases.

    The slow mode cannot check only a few entries of a tensor. Since every entry costs two full forward
    passes, the biases stand for all entries in a sample. If the fast mode fails, perhaps because of a kink,
    it runs the slow mode to explain the failure. So `tolerance`, which sets rtol and atol, should be large
    for timing.
    """
    import torch

    loss, tensors = torch_loss(net), torch_tensors(net)
    options = {"fast_mode": fast, "raise_exception": False, "rtol": tolerance, "atol": 1e-2 * tolerance}

    def run(entries: int) -> bool:
        if entries == net.entries:
            return torch.autograd.gradcheck(loss, tensors, **options)
        biases = torch.cat([tensor.detach() for tensor in tensors[1::2]])
        head, rest = biases[:entries].clone().requires_grad_(), biases[entries:]

        def loss_of_biases(head: Any) -> Any:
            parts = torch.cat([head, rest]).split(net.widths[1:])
            return loss(*(each for pair in zip(tensors[::2], parts, strict=True) for each in pair))

        return torch.autograd.gradcheck(loss_of_biases, [head], **options)

    return run


# --- jax ---------------------------------------------------------------------------------------------------


def jax_batch(net: Dense) -> int:
    """Return how many directions to perturb along at once."""
    return max(1, min(net.entries, JAX_BYTES // (8 * net.entries)))


def jax_vmap(net: Dense) -> Entries:
    """Use central differences along one-hot directions, in compiled batches."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    table: dict[str, Callable[..., Any]] = {
        "identity": lambda z: z,
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "mse": lambda a, y: ((a - y) ** 2).sum(),
        "cross_entropy": lambda a, y: -(y * jax.nn.log_softmax(a)).sum(),
    }
    x, y = jnp.asarray(net.x), jnp.asarray(net.target)

    def loss(flat: Any) -> Any:
        a, tensors = x, net.tensors(flat)
        for w, b, activation in zip(tensors[::2], tensors[1::2], net.activations, strict=True):
            a = table[activation](a @ w.T + b)
        return net.coefficient * table[net.loss](a, y)

    @jax.jit
    def slopes(flat: Any, indices: Any) -> Any:
        def slope(i: Any) -> Any:
            return (loss(flat.at[i].add(STEP)) - loss(flat.at[i].add(-STEP))) / (2.0 * STEP)

        return jax.vmap(slope)(indices)

    flat, batch = jnp.asarray(net.flat), jax_batch(net)
    slopes(flat, jnp.zeros(batch, dtype=int)).block_until_ready()  # compiles

    def run(which: Array) -> Array:
        padded = np.resize(which, -(-len(which) // batch) * batch).reshape(-1, batch)
        return np.concatenate([np.asarray(slopes(flat, part)) for part in padded])[: len(which)]

    return run
