"""Notice that a Python function computes with jax in float32."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from inspect import unwrap
from types import ModuleType
from typing import Any

from gradcheck_cli.code.load import Callee


def narrow_jax(code: Callee, returned: Sequence[Any]) -> Iterator[str]:
    """Yield a remark if jax computed the returned values in float32."""
    jax = sys.modules.get("jax")
    if jax is None or jax.config.jax_enable_x64 or not any(map(_is_float32, returned)):
        return
    if any(map(_is_of_jax, (*returned, *_in_sight_of(code.value)))):
        yield "jax computes in float32; for a finer check, call jax.config.update('jax_enable_x64', True)"


def _in_sight_of(function: Any) -> Iterator[Any]:
    """Yield the objects that a function can refer to: its globals and the variables of its closure."""
    function = unwrap(function)
    yield from getattr(function, "__globals__", {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # the cell is empty
            yield cell.cell_contents


def _is_float32(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "float32"


def _is_of_jax(value: Any) -> bool:
    """Return whether the object is a jax array, a jax module, or a function transformed by jax."""
    if isinstance(value, ModuleType):
        module = value.__name__
    else:
        module = getattr(value, "__globals__", {}).get("__name__") or type(value).__module__
    return str(module).split(".")[0] in ("jax", "jaxlib")
