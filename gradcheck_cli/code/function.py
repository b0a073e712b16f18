"""The user's code as a function of named parameters, and the arguments that the spec provides for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gradcheck_cli.code.call import Call
from gradcheck_cli.code.evaluation import WideGradients
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.sites import Sites
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


class Function(Protocol):
    """A loss L as a function of named parameters, with the gradients that its author computes."""

    @property
    def origin(self) -> str:
        """A short description of the function's origin."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The parameters at which the gradients are checked, as float64 arrays by name."""

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """Return the S loss terms that add up to L, as a float64 array of shape (S,).

        There is one term per sample if the function returns the losses of the samples separately.
        """

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        """Return the S loss terms at each of K points, (K, S). A vectorized function is called only once."""

    @property
    def terms(self) -> int:
        """The number of loss terms that the function returns, S."""

    @property
    def vectorized(self) -> bool:
        """Whether the function accepts parameters stacked along a first axis, one set per point."""

    @property
    def is_wide(self) -> bool:
        """Whether the losses are known to be computed in float64 from start to end."""

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the gradient of each parameter, by name, in the dtype it was computed in."""

    def wide_gradients(self) -> WideGradients | None:
        """Return the gradients computed in a wider dtype, to reveal rounding errors.

        Returns None if the code cannot compute in a wider dtype.
        """

    def attached(self) -> Iterable[Attached]:
        """Run the code again without the calls that detach a branch, such as detach(), if there are any.

        Yields the gradients of each run.
        """

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings about things in the code that are allowed but rarely intended, one short line each."""

    @property
    def samples(self) -> int | None:
        """The number of samples that the code is called with; None if that is unknown."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """The number of entries in each output if L = Σ c · out; empty if the code has a loss of its own."""

    @property
    def stands_alone(self) -> bool:
        """Whether no network section can describe the code, as is the case for a layer or a jax function."""

    @property
    def takes_taps(self) -> bool:
        """Whether the code may mark intermediate results with `tap`, as Python functions and layers may."""

    @property
    def loss_name(self) -> str:
        """A short name of the loss, such as ``its own loss``."""

    @property
    def loss(self) -> float:
        """The loss at `parameters` as the author wrote it, without any weights added by gradcheck."""

    @property
    def weighted(self) -> str:
        """A description of how L differs from the loss that the author wrote; empty if it does not differ."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Facts that suggest wrong gradients, found by running the code in other ways."""

    def sites(self, names: Sequence[str]) -> Sites:
        """Return verified sites of some parameters in `names`, found without any gradient (see `Sites`)."""

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        """Return sentences that say where in the code the fault lies, as far as the code's taps show it.

        wrong, right: the names of the tensors whose gradients are wrong, and of those whose gradients agree.
        """

    @property
    def calls(self) -> Sequence[Call]:
        """A call of a layer's forward function, which may show the kind of layer; empty for other code."""

    @property
    def before(self) -> Sequence[Function]:
        """Functions to check first. If one of them is wrong, the result for this function means nothing."""

    @property
    def other_modes(self) -> Mapping[str, Function]:
        """The same function with gradients from each further mode to check, by the name of the mode."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """The kernel whose gradients are checked, if its losses come from a reference; empty otherwise."""

    @property
    def others(self) -> Sequence[Function]:
        """Functions that run the same code with other weights in L. Their gradients must be right, too."""


FORWARD = "forward mode (jvp)"
BATCHED = "batched backward (vmap)"
"""The names of further modes in which code computes gradients."""


@dataclass(frozen=True)
class Inputs:
    """The arguments for the user's code that the spec provides.

    parameters: the parameters by name, or None if the code defines its own.
    x, y: the data, or None if the spec names none.
    problem: the network with its parameters and data, or None if the spec describes no network.
    checks_inputs: whether ∂L/∂x is checked, too.
    order: 1 to check gradients, 2 to check the gradients of gradients.
    forward_mode: whether forward-mode derivatives are checked, too.
    batched: whether backward for a batch of upstreams is checked, too.
    """

    parameters: Mapping[str, Array] | None
    x: Array | None
    y: Array | None
    problem: Problem | None = None
    checks_inputs: bool = False
    order: int = 1
    forward_mode: bool = False
    batched: bool = False
