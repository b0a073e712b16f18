"""gradcheck: check backprop gradients entry by entry, and find the wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck_cli.checker import check
    from gradcheck_cli.code.tap import tap
    from gradcheck_cli.comparison import Comparison, Entry
    from gradcheck_cli.errors import ExitCode, GradcheckError, InputError, UntrustedReferenceError
    from gradcheck_cli.report import Report
    from gradcheck_cli.spec.file import load_spec
    from gradcheck_cli.spec.spec import Spec
    from gradcheck_cli.testing import (
        UndecidedGradientError,
        WrongGradientError,
        check_gradients,
        check_jax,
        check_layer,
        check_torch,
    )
    from gradcheck_cli.verdict import Verdict

__version__ = "0.2.0"

_HOMES = {
    "check": "checker",
    "Comparison": "comparison",
    "Entry": "comparison",
    "Verdict": "verdict",
    "ExitCode": "errors",
    "GradcheckError": "errors",
    "InputError": "errors",
    "UntrustedReferenceError": "errors",
    "Report": "report",
    "Spec": "spec.spec",
    "load_spec": "spec.file",
    "UndecidedGradientError": "testing",
    "WrongGradientError": "testing",
    "check_gradients": "testing",
    "check_jax": "testing",
    "check_layer": "testing",
    "check_torch": "testing",
    "tap": "code.tap",
}

__all__ = [
    "Comparison",
    "Entry",
    "ExitCode",
    "GradcheckError",
    "InputError",
    "Report",
    "Spec",
    "UndecidedGradientError",
    "UntrustedReferenceError",
    "Verdict",
    "WrongGradientError",
    "__version__",
    "check",
    "check_gradients",
    "check_jax",
    "check_layer",
    "check_torch",
    "load_spec",
    "tap",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import a public name only when it is first used, so that `--version` does not import numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradcheck_cli' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"gradcheck_cli.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
