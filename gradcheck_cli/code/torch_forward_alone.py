"""Run autograd functions forward only, so that `torch.func.vmap` accepts those without a rule for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


class _Context:
    """A context that accepts everything that a forward saves for backward, and forgets it."""

    def __init__(self, given: int) -> None:
        self.needs_input_grad = (False,) * given

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


@contextmanager
def forward_alone(torch: Any) -> Iterator[None]:
    """Make `apply` of every autograd function call its forward directly inside the context."""
    function = torch.autograd.Function

    def apply(kind: Any, *given: Any, **named: Any) -> Any:
        if kind.setup_context is not function.setup_context:  # such a forward takes no context
            return kind.forward(*given, **named)
        return kind.forward(_Context(len(given)), *given, **named)

    with patch.object(function, "apply", classmethod(apply)):
        yield
