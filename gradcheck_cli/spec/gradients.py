"""The gradients section of a spec: where the gradients to check come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from gradcheck_cli.spec.arrays import ArrayFile, Named
from gradcheck_cli.spec.model import Model, by_key


class Backprop(Model):
    """The gradients of gradcheck's own backprop.

    source: gradcheck's own backprop. It needs neither a file nor code.
    """

    source: Literal["backprop"] = "backprop"


class GradientFile(ArrayFile):
    """Your gradients: a file with one array per parameter."""


@dataclass(frozen=True)
class Code:
    """`FILE.py:NAME`: something that a Python file defines."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.file.name}"


def code_of(text: str, folder: Path) -> Code | None:
    """Parse `my_net.py:loss_and_gradients`, with the file relative to `folder`; None for any other form."""
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or "\0" in file or not all(map(str.isidentifier, name.split("."))):
        return None
    return Code(Path(folder, file), name)


def _code(value: object, info: ValidationInfo) -> object:
    code = code_of(value, (info.context or {}).get("folder", Path())) if isinstance(value, str) else value
    if not isinstance(code, Code):
        raise PydanticCustomError(
            "code_type", "FILE.py:NAME is needed here, not {found}", {"found": repr(value)}
        )
    return code


CodeName = Annotated[Code, BeforeValidator(_code, json_schema_input_type=str)]


class PythonFunction(Named):
    """Your Python function: (parameters, x, y) → the loss and a dict of gradients.

    python: `FILE.py:NAME`, with the file relative to the spec.
    names: The function's names for parameters, and the network's (`W1: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
    vectorized: The function takes K points at once: parameters, losses and gradients have a first axis of K.
    """

    python: CodeName
    vectorized: bool = False


class TorchModule(Named):
    """Your function that returns a torch module and its loss.

    torch: `FILE.py:NAME`, with the file relative to the spec.
    names: The module's names for parameters, and the network's (`0.weight: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in torch.nn.Linear; `in_out` if they are [in, out].
    vectorized: torch.func.vmap can run the module and its loss at many points at once.
    """

    torch: CodeName
    vectorized: bool = False


Gradients = Annotated[
    GradientFile | PythonFunction | TorchModule | Backprop,
    by_key(file=GradientFile, python=PythonFunction, torch=TorchModule, source=Backprop),
]
