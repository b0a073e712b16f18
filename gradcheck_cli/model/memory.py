"""How much memory a check takes, told before it is tried."""

from __future__ import annotations

import os
import sys

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.network.network import Network

_PER_PARAMETER = 18 * 8
"""Bytes for each entry: gradient, reference, error bar, rounding, and what a verdict needs (measured)."""

_PER_ACTIVATION = 24 * 8
"""Bytes for each sample of each unit and input: both passes, rounding, slopes and error bars (measured)."""

_PER_MOVED = 8 * 8
"""Bytes for each number that a single move carries upwards: itself, and what it takes to evaluate it."""

_LOADED = 64 * 2**20
"""Bytes for Python, numpy and the rest of the process."""

MIB = 2**20


def needed(network: Network, samples: int) -> int:
    """Bytes for the arrays that are there throughout, of every entry and of every activation."""
    parameters = sum(layer.units * layer.inputs + len(layer.shapes) * layer.units for layer in network.layers)
    activations = samples * (network.layers[0].inputs + sum(layer.units for layer in network.layers))
    return _LOADED + _PER_PARAMETER * parameters + _PER_ACTIVATION * activations


def least_block(network: Network, samples: int) -> tuple[int, int]:
    """Bytes for the largest single move, which no block can be smaller than, and at which layer that is.

    An entry is moved for the whole batch at once, as is a pre-activation below a batch normalisation.
    """
    sizes = [
        _PER_MOVED * samples * max(layer.units for layer in network.layers[i:])
        for i in range(len(network.layers))
    ]
    largest = max(sizes)
    return largest, sizes.index(largest)


def refuse_oversized(network: Network, samples: int, budget: int) -> None:
    """Raise an `InputError` for what cannot fit the machine, or the budget (MiB) for blocks of moves."""
    block, layer = least_block(network, samples)
    if block > budget * MIB:
        message = (
            f"with {samples:,} samples a single move at layer '{network.layers[layer].name}' takes about "
            f"{_size(block)}, over the budget of {budget} MiB"
        )
        help = "check a smaller batch, or raise --memory"
        raise InputError(Complaint(message, ("network", "layers", layer, "units"), help=help))
    total, there = needed(network, samples) + block, _machine()
    if there is not None and total > there:
        message = f"this check takes about {_size(total)} of memory, and the machine has {_size(there)}"
        help = "check a smaller batch, or a smaller version of the network"
        raise InputError(Complaint(message, ("network", "layers"), help=help))


def _machine() -> int | None:
    """Bytes of memory there are for this process, as far as that can be told."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return physical if limit == resource.RLIM_INFINITY else min(limit, physical)


def _size(count: int) -> str:
    """``320 MiB``, ``4.2 GiB``"""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / MIB:.0f} MiB"
