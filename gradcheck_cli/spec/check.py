"""The check section of a spec: what to check and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.spec.allowed import ATOL, JOBS, MEMORY, RTOL, STEP, Differences, Order
from gradcheck_cli.spec.model import Model, Seed, names_in_schema, one_of

_SchemeName = Annotated[str, one_of(SCHEMES, "scheme"), names_in_schema(SCHEMES)]


def _patterns(value: object) -> object:
    """Expand a single pattern to a tuple, and `all` to `*`, which matches every parameter."""
    return ("*",) if value == "all" else (value,) if isinstance(value, str) else value


def _jobs(value: object) -> object:
    if value == "auto" or (type(value) is int and JOBS["ge"] <= value <= JOBS["le"]):
        return value
    message = "'jobs' must be a number from {ge} to {le}, or auto, not {found}"
    raise PydanticCustomError("jobs", message, {**JOBS, "found": repr(value)})


Jobs = Annotated[Annotated[int, Field(**JOBS)] | Literal["auto"], BeforeValidator(_jobs)]


class CheckSpec(Model):
    """What to check and how.

    parameters: The parameters to check: names with wildcards, such as `output.*`, or `all`.
    inputs: Also check the gradient with respect to the input x. The report calls this tensor `input`.
    order: 1 checks gradients. 2 also checks the gradients of the gradients, which double backward computes.
        Order 2 needs code in torch or jax.
    forward_mode: Also check forward-mode derivatives (jvp), and say which of the two modes is wrong. This
        needs code in torch or jax.
    batched: Also check backward for a batch of upstreams, by is_grads_batched and torch.func.vmap. Say
        whether the batch or backward for a single upstream is wrong. This needs code in torch.
    scheme: The difference scheme. `adaptive` extrapolates from several steps and estimates its own error.
    step: The largest step of the scheme, measured as the change in a pre-activation.
    rtol: The relative tolerance. The default is 1e-6, or 16 times the machine epsilon of the gradient's dtype
        if that is larger.
    atol: The absolute tolerance, 0 by default. It can hide a mistake in any entry that is not much larger
        than the tolerance, so the report counts the entries that agree only because of it.
    differences: `units` perturbs pre-activations, which covers all entries at once; `literal` perturbs one
        entry at a time.
    fast: Check code along random directions, even if checking every entry would be quick.
    jobs: The number of worker processes, or `auto` for one per core.
    memory: The memory in MiB for the points that are evaluated at once.
    seed: The seed that selects the entries to check a second time, and the random directions.
    strict: End with exit code 3 if even one entry is unresolved.
    """

    parameters: Annotated[
        tuple[str, ...],
        Field(strict=False, min_length=1),
        BeforeValidator(_patterns, json_schema_input_type=str | list[str]),
    ] = ("*",)
    inputs: bool = False
    order: Order = 1
    forward_mode: bool = False
    batched: bool = False
    scheme: _SchemeName = DEFAULT_SCHEME
    step: Annotated[float, Field(**STEP)] | None = None
    rtol: Annotated[float, Field(**RTOL)] | None = None
    atol: Annotated[float, Field(**ATOL, allow_inf_nan=False)] = 0.0
    differences: Differences = "units"
    fast: bool = False
    jobs: Jobs = 1
    memory: Annotated[int, Field(**MEMORY)] = 256
    seed: Seed = 0
    strict: bool = False
