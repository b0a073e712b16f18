"""The base class for torch modes, which intercept every operator that torch runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def operator_mode() -> Any:
    """Return a subclass of torch's `TorchDispatchMode` that does not load torch's compiler.

    torch loads `torch._dynamo` only to exclude a mode's methods from compilation. That import takes as long
    as loading torch itself, and is unnecessary until some code has been compiled.
    """
    base = import_module("torch.utils._python_dispatch").TorchDispatchMode
    is_loaded = classmethod(lambda cls: "torch._dynamo" in sys.modules)
    return type("OperatorMode", (base,), {"_should_skip_dynamo": is_loaded})
