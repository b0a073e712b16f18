"""Estimate the memory that a check needs before running it."""

from __future__ import annotations

import math
import os
import sys

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.network.network import Network
from gradcheck_cli.problem.layers import size_after, size_of, widest_nodes

_PER_PARAMETER = 18 * 8
"""The bytes that a parameter entry needs for gradient, reference, error bar, rounding and verdict.

This number was measured.
"""

_PER_ACTIVATION = 24 * 8
"""The bytes that a sample needs per unit or input, for both passes, rounding, slopes and error bars.

This number was measured.
"""

_PER_MOVED = 8 * 8
"""The bytes that a perturbation needs per activation that it changes, including temporary arrays."""

_LOADED = 64 * 2**20
"""The bytes that the process needs for Python, numpy and gradcheck."""

MIB = 2**20


def needed(network: Network, samples: int) -> int:
    """Return the number of bytes that a check needs from start to finish.

    These are the bytes for the process, the parameters and the activations.
    """
    parameters = sum(math.prod(shape) for shape in network.shapes.values())
    sizes = [size_after(network.graph, i) for i in widest_nodes(network.graph).values()]
    activations = samples * (math.prod(network.features) + sum(sizes))
    return _LOADED + _PER_PARAMETER * parameters + _PER_ACTIVATION * activations


def least_block(network: Network, samples: int) -> tuple[int, int]:
    """Return the bytes that the largest single perturbation needs, and the index of the node that needs them.

    No block of perturbations can be smaller: an entry is perturbed for the whole batch at once, and so is a
    pre-activation that feeds a batch normalisation.
    """
    graph = network.graph
    widest = list(widest_nodes(graph).values())
    above = [max(size_after(graph, i) for i in widest[first:]) for first in range(len(widest))]
    largest = max(above)
    return _PER_MOVED * samples * largest, widest[above.index(largest)]


def refuse_oversized(network: Network, samples: int, budget: int) -> None:
    """Raise an `InputError` if the check needs more memory than the machine has or the spec allows.

    budget: the memory allowed for one block of perturbations, in MiB.
    """
    block, i = least_block(network, samples)
    node = network.graph.nodes[i]
    if block > budget * MIB:
        message = (
            f"with {samples:,} samples, one perturbation at layer '{node.layer}' takes about "
            f"{_size(block)}, over the budget of {budget} MiB"
        )
        help = "check a smaller batch, or raise --memory"
        raise InputError(Complaint(message, size_of(node), help=help))
    total, there = needed(network, samples) + block, _machine()
    if there is not None and total > there:
        message = f"this check needs about {_size(total)} of memory, but the machine has {_size(there)}"
        help = "check a smaller batch, or a smaller version of the network"
        raise InputError(Complaint(message, ("network", "layers"), help=help))


def _machine() -> int | None:
    """Return the largest number of bytes that this process may use; None if the limit is unknown."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return physical if limit == resource.RLIM_INFINITY else min(limit, physical)


def _size(count: int) -> str:
    """Format a number of bytes as text, such as ``320 MiB`` or ``4.2 GiB``."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / MIB:.0f} MiB"
