"""The base class for modes that intercept every operator torch runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def operator_mode() -> Any:
    """Return torch's `TorchDispatchMode`, without the part that loads the compiler.

    torch loads `torch._dynamo` only to keep the compiler out of a mode's method, and that takes as long as
    loading torch itself. It is unnecessary as long as no code has been compiled.
    """
    base = import_module("torch.utils._python_dispatch").TorchDispatchMode
    is_loaded = classmethod(lambda cls: "torch._dynamo" in sys.modules)
    return type("OperatorMode", (base,), {"_should_skip_dynamo": is_loaded})
