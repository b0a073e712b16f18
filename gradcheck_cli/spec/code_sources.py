"""The kinds of user code that can compute gradients: one row each, and nothing else lists them.

From a row are made the model in the spec, the option on the command line, the choice of `gradcheck init`, and
the conditions in the JSON Schema. This module loads neither pydantic nor numpy, since `--help` needs it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CodeSource:
    """User code, of one kind, that computes a loss and its gradients.

    key: The key in the gradients section that names the code. It also names the option and the starter, the
        files KEY.yaml and KEY.py.txt in `starters`.
    name: Its name in a list of all sources, such as Python.
    what: What the user writes, such as "a Python function".
    option: The help of its option.
    model: The name of its model, and of its definition in the JSON Schema.
    keys: What the model is, and its keys, in the form of a model's docstring.
    reader: The module whose `read(source, inputs, load)` loads and calls the code. It is imported on demand.
    brings_parameters: Whether the user's module may define `parameters` for a network whose spec has none.
    gives_inputs: Whether the code may return the gradient with respect to x.
    """

    key: str
    name: str
    what: str
    option: str
    model: str
    keys: str
    reader: str
    brings_parameters: bool
    gives_inputs: bool


CODE_SOURCES: tuple[CodeSource, ...] = (
    CodeSource(
        key="python",
        name="Python",
        what="a Python function",
        option="Check the gradients of this function, (parameters, x, y) -> loss, gradients, against its own "
        "loss.",
        model="PythonFunction",
        keys="""Your Python function: (parameters, x, y) → the loss and a dict of gradients.

        python: `FILE.py:NAME`, with the file relative to the spec.
        names: The function's names for parameters, and the network's (`W1: hidden1.weight`).
        layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
        vectorized: The function takes K points at once: parameters, losses and gradients have a first axis of
        K.
        """,
        reader="gradcheck_cli.code.python_function",
        brings_parameters=True,
        gives_inputs=True,
    ),
    CodeSource(
        key="torch",
        name="torch",
        what="a torch module",
        option="Check the backward pass of the torch module and the loss that this function returns.",
        model="TorchModule",
        keys="""Your function that returns a torch module and its loss.

        torch: `FILE.py:NAME`, with the file relative to the spec.
        names: The module's names for parameters, and the network's (`0.weight: hidden1.weight`).
        layout: `out_in` if the weights are [out, in], as in torch.nn.Linear; `in_out` if they are [in, out].
        vectorized: torch.func.vmap can run the module and its loss at many points at once.
        """,
        reader="gradcheck_cli.code.torch_module",
        brings_parameters=False,
        gives_inputs=False,
    ),
)


def names_of_sources() -> str:
    """Return the names of all sources in one phrase: ``Python or torch``."""
    return " or ".join(source.name for source in CODE_SOURCES)
