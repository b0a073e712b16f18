"""The kinds of user code that can compute gradients, one row each. No other module lists them.

Each row defines the model in the spec, the option on the command line, the choice of `gradcheck init`, and
the conditions in the JSON Schema. This module imports neither pydantic nor numpy, because `--help` loads it
and must be fast.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CodeSource:
    """One kind of user code that computes a loss and its gradients.

    key: The key in the gradients section that names the code. The option has the same name, and so do the
        starter files, KEY.yaml and KEY.py.txt in `starters`.
    name: A short name, such as "Python", for a sentence that lists all kinds.
    what: A phrase for the thing that the user writes, such as "a Python function".
    option: The help text of the option.
    model: The name of the pydantic model, and of its definition in the JSON Schema.
    keys: The docstring of the pydantic model, which describes its keys.
    reader: The module whose `read(source, inputs, load)` loads and calls the code. The module is imported on
        demand.
    brings_parameters: Whether the user's module may define `parameters` if the spec has none.
    without_inputs: What to do instead of `inputs: true` if the code does not support it; otherwise empty.
    is_differentiable: Whether gradcheck can differentiate the code's gradients, which `order: 2` needs.
    is_network: Whether the code may be a network. The spec may then give the code's names and layout, and may
        say that the code takes many points at once.
    takes_reference: Whether a `reference` may compute the same forward pass in float64.
    functions: The keys of further functions in the same file. The default name of each such function is
        derived from the name under `key`.
    counts: The keys of whole numbers, each at least 1. By default, gradcheck finds such a number by running
        the code.
    file_key: A key that may name the file. If it does, the other keys hold only names in that file. Empty if
        there is no such key.
    """

    key: str
    name: str
    what: str
    option: str
    model: str
    keys: str
    reader: str
    brings_parameters: bool
    without_inputs: str = ""
    is_differentiable: bool = False
    is_network: bool = True
    takes_reference: bool = False
    functions: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    file_key: str = ""


CODE_SOURCES: tuple[CodeSource, ...] = (
    CodeSource(
        key="forward",
        name="layers",
        what="a layer: its forward and backward functions",
        option="Check the layer with this forward function. Its backward function has the same name, with "
        "backward in place of forward.",
        model="LayerFunctions",
        keys="""Your layer: forward returns out or (out, cache), and backward takes (dout, cache).

        The loss is Σ c · out, with c drawn at random. Every array of floats that forward takes is checked.

        forward: `FILE.py:NAME`, with the file relative to the spec; or only `NAME`, if `python` is the file.
        backward: The name of the backward function. By default, the name of the forward function with
        `backward` in place of `forward`.
        python: The file with both functions, if `forward` is only a name.
        outputs: The number of forward's outputs, if gradcheck cannot tell them from the cache.
        """,
        reader="gradcheck_cli.code.layer_source",
        brings_parameters=False,
        without_inputs="leave 'inputs' out; every array of floats that forward takes is checked",
        is_network=False,
        takes_reference=True,
        functions=("backward",),
        counts=("outputs",),
        file_key="python",
    ),
    CodeSource(
        key="python",
        name="Python",
        what="a Python function",
        option="Check the gradients of this function, (parameters, x, y) -> loss, gradients, against its own "
        "loss.",
        model="PythonFunction",
        keys="""Your Python function: (parameters, x, y) → the loss and a dict of gradients.

        python: `FILE.py:NAME`, with the file relative to the spec.
        names: Maps the function's parameter names to the network's (`W1: hidden1.weight`).
        layout: `out_in` for weights of shape [out, in], as in PyTorch; `in_out` for [in, out].
        vectorized: Whether the function evaluates K points in one call. Parameters, losses and gradients then
        have a first axis of length K.
        """,
        reader="gradcheck_cli.code.python_source",
        brings_parameters=True,
        takes_reference=True,
    ),
    CodeSource(
        key="torch",
        name="torch",
        what="a torch module",
        option="Check the backward pass of a torch module. The function returns the module and its loss.",
        model="TorchModule",
        keys="""Your function that returns a torch module and its loss, or a module alone.

        If the function returns no loss, the loss is Σ c · out, with c drawn at random.

        torch: `FILE.py:NAME`, with the file relative to the spec.
        names: Maps the module's parameter names to the network's (`0.weight: hidden1.weight`).
        layout: `out_in` for weights of shape [out, in], as in torch.nn.Linear; `in_out` for [in, out].
        vectorized: Whether the module and its loss work under torch.func.vmap, which evaluates many points at
        once.
        """,
        reader="gradcheck_cli.code.torch_module",
        brings_parameters=False,
        without_inputs="a Python function may return the gradient of x as 'input'",
        is_differentiable=True,
        takes_reference=True,
    ),
    CodeSource(
        key="jax",
        name="jax",
        what="a jax function",
        option="Check the derivative rules of this jax function, (parameters, x, y) -> loss or outputs.",
        model="JaxFunction",
        keys="""Your jax function: (parameters, x, y) → the loss, or outputs of any shape. gradcheck
        differentiates it with jax.grad, in float64.

        For outputs, the loss is Σ c · out, with c drawn at random.

        jax: `FILE.py:NAME`, with the file relative to the spec.
        """,
        reader="gradcheck_cli.code.jax_function",
        brings_parameters=True,
        without_inputs="make x one of the parameters",
        is_differentiable=True,
        is_network=False,
    ),
)


def names_of_sources() -> str:
    """Return the names of all kinds of user code as one phrase, such as ``layers, Python or torch``."""
    *names, last = (source.name for source in CODE_SOURCES)
    return f"{', '.join(names)} or {last}"
