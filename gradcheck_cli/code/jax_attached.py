"""Differentiate a function of jax in such a way that stop_gradient has no effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.findings import Attached
from gradcheck_cli.types import Array


def attached(jax: Any, run: Callable[[], Mapping[str, Array]]) -> Iterator[Attached]:
    """Yield the gradients without stop_gradient, if the function calls it.

    run: a function that returns the gradients that jax computes.
    """
    with suppress(RefusedError), may_fail(Exception), _passing_through(jax) as calls:
        gradients = run()
        if calls:
            yield Attached("stop_gradient", gradients)


@contextmanager
def _passing_through(jax: Any) -> Iterator[list[Any]]:
    """Let derivatives pass through stop_gradient. Yield a list that receives the values of each call.

    jax caches the derivatives of compiled functions, so its caches are cleared on entry and on exit.
    """
    rules = import_module("jax.interpreters.ad").primitive_jvps
    stops = [primitive for primitive in rules if primitive.name == "stop_gradient"]
    before, calls = {primitive: rules[primitive] for primitive in stops}, []

    def rule(primals: Any, tangents: Any) -> Any:
        calls.append(primals)
        return primals[0], tangents[0]

    jax.clear_caches()
    rules.update(dict.fromkeys(stops, rule))
    try:
        yield calls
    finally:
        rules.update(before)
        jax.clear_caches()
