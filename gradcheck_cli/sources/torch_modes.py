"""The base class of modes that see each operator torch runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def operator_mode() -> Any:
    """Return torch's `TorchDispatchMode`, without what loads the compiler.

    torch loads `torch._dynamo` to keep the compiler out of a mode's method, which takes as long as loading
    torch. Code that has compiled nothing so far has not loaded it, and needs no such care.
    """
    base = import_module("torch.utils._python_dispatch").TorchDispatchMode
    is_loaded = classmethod(lambda cls: "torch._dynamo" in sys.modules)
    return type("OperatorMode", (base,), {"_should_skip_dynamo": is_loaded})
