"""Values written in a form that other tools use, each with what to type here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gradcheck_cli.errors import shortened

_OPTIONAL = "activation", "penalty", "check", "parameters", "gradients"
"""Keys that may be left out."""

_EXAMPLES = {"activation": "relu", "loss": "mse"}

_KINDS_OF_PADDING = "same", "valid", "zeros", "reflect"


class _Form(NamedTuple):
    """A form that a value may have.

    fits: a function of the kind of error, the key and the value.
    hint: a function of the key and the value. It says what to type.
    """

    fits: Callable[[str, str, object], bool]
    hint: Callable[[str, object], str]


def _is_quoted_number(kind: str, key: str, found: object) -> bool:
    if not kind.startswith(("int_", "float_")) or not isinstance(found, str):
        return False
    try:
        float(found)
    except ValueError:
        return False
    return True


def _is_layer(kind: str, key: str, found: object) -> bool:
    return kind == "layer_type"


def _as_layer(key: str, found: object) -> str:
    if isinstance(found, str):
        return f"write {{{found}: …}}: this layer needs a value, as in {{dropout: 0.5}}"
    if isinstance(found, int) and not isinstance(found, bool):
        return f"write {{units: {found}}} for a dense layer"
    return "remove this item" if found is None else "each layer is a mapping such as {units: 10}"


def _as_array(key: str, found: object) -> str:
    text = str(found)
    return f"write {{file: {text}}}" if "." in text else f"write {{file: FILE.npz, array: {text}}}"


def _number_of(key: str) -> str:
    return "0.5" if key == "dropout" else "8"


_FORMS = (
    _Form(_is_quoted_number, lambda key, found: "without quotes it is a number"),
    _Form(lambda kind, key, found: kind == "array_type" and isinstance(found, str), _as_array),
    _Form(_is_layer, _as_layer),
    _Form(
        lambda kind, key, found: found is None and key in _OPTIONAL,
        lambda key, found: "remove this key" + (", or write identity" if key == "activation" else ""),
    ),
    _Form(
        lambda kind, key, found: found is False and key == "activation",
        lambda key, found: "remove this key, or write identity",
    ),
    _Form(
        lambda kind, key, found: found is None and key == "loss",
        lambda key, found: "write the name of a loss, such as mse or cross_entropy",
    ),
    _Form(
        lambda kind, key, found: kind == "name_type" and isinstance(found, list) and len(found) == 1,
        lambda key, found: f"write the name without brackets, as in {key}: {_EXAMPLES.get(key, 'NAME')}",
    ),
    _Form(
        lambda kind, key, found: kind.startswith(("int_", "float_")) and isinstance(found, Mapping),
        lambda key, found: (
            f"write the number itself, as in {{{key}: {_number_of(key)}}}; options go next to it"
        ),
    ),
    _Form(
        lambda kind, key, found: key in ("layer_norm", "rms_norm") and isinstance(found, Mapping),
        lambda key, found: f"write {{{key}: true}}; options such as eps go next to it",
    ),
    _Form(
        lambda kind, key, found: kind.startswith("int_") and key == "units" and isinstance(found, list),
        lambda key, found: "write one layer for each number: [{units: 5}, {units: 3}]",
    ),
    _Form(
        lambda kind, key, found: key == "padding" and found in _KINDS_OF_PADDING,
        lambda key, found: "write the number of zeros on each side, such as 1 for a kernel of 3",
    ),
    _Form(
        lambda kind, key, found: kind == "tuple_type" and key == "layers" and isinstance(found, Mapping),
        lambda key, found: (
            "write a list: [{units: 10}, {units: 3}]; a layer may have a name: {units: 10, name: NAME}"
        ),
    ),
    _Form(
        lambda kind, key, found: kind == "tuple_type" and key in ("x", "y") and isinstance(found, str),
        lambda key, found: (
            "save x and y in one file, numpy.savez('batch.npz', x=x, y=y), and write data: {file: batch.npz}"
        ),
    ),
    _Form(
        lambda kind, key, found: kind == "model_type" and key == "penalty" and not isinstance(found, bool),
        lambda key, found: f"write penalty: {{l2: {found if isinstance(found, int | float) else 0.01}}}",
    ),
    _Form(
        lambda kind, key, found: (
            kind == "model_type" and key in ("gradients", "parameters", "data") and isinstance(found, str)
        ),
        lambda key, found: (
            f"write {key}: {{{'python' if '.py' in str(found) else 'file'}: {shortened(str(found))}}}"
        ),
    ),
    _Form(
        lambda kind, key, found: kind == "model_type" and key == "check" and isinstance(found, list),
        lambda key, found: "write check: {parameters: [NAME, …]}",
    ),
    _Form(
        lambda kind, key, found: kind == "model_type" and key == "network" and isinstance(found, list),
        lambda key, found: "write network: {inputs: N, layers: […], loss: NAME}",
    ),
    _Form(
        lambda kind, key, found: key == "reduction" and found == "none",
        lambda key, found: (
            "a check needs a single number; if your code returns one loss per sample, write sum"
        ),
    ),
    _Form(
        lambda kind, key, found: key == "reduction" and found == "sum_over_batch_size",
        lambda key, found: "did you mean 'mean'?",
    ),
)
"""The known forms. The first one that fits a value gives the hint."""


def help_for_value(kind: str, key: str, found: object) -> str | None:
    """Return what to type instead of a value; None if its form is unknown.

    kind: the kind of error, as pydantic or a validator of the spec calls it.
    key: the last key that leads to the value.
    """
    return next((form.hint(key, found) for form in _FORMS if form.fits(kind, key, found)), None)
