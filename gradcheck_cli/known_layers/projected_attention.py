"""Guess self-attention whose projections are part of the layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations, product

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.attention import batched
from gradcheck_cli.known_layers.sketch import Form, Sketch, as_it_is, begun, named, reshaped, transposed
from gradcheck_cli.network.composed.attention import GroupedAttention, MultiheadAttention
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.types import Array

_SEPARATE = "q_proj", "k_proj", "v_proj", "o_proj"
_JOINT_WEIGHTS = "in_proj_weight", "out_proj.weight"
_JOINT_BIASES = "in_proj_bias", "out_proj.bias"

Parameters = Mapping[str, str]
"""Maps the names of our layer's parameters to the names of the user's arrays."""


def projected_attention(call: Call) -> Iterator[Sketch]:
    """Yield self-attention with each number of heads, with and without a causal mask.

    The projections of queries, keys and values are separate or joint. A projection of the output may follow.
    """
    for name, array in call.arrays.items():
        x = batched(array)
        if x.ndim == 3 and call.outputs[0].shape == array.shape:
            rest = {other: each for other, each in call.arrays.items() if other != name}
            matrices, biases = _sorted_out(rest, x.shape[-1])
            for parameters in (*_separate(matrices, biases), *_joint(matrices, biases, rest)):
                yield from _sketches(name, x, rest, parameters)


def _sorted_out(arrays: Mapping[str, Array], width: int) -> tuple[list[str], list[str]]:
    """Return the names of the weights and of the biases, each in the order of the arguments."""
    weights = [name for name, each in arrays.items() if each.ndim == 2 and min(each.shape) >= width > 1]
    return weights, [name for name in arrays if name not in weights]


def _separate(weights: Sequence[str], biases: Sequence[str]) -> Iterator[Parameters]:
    if len(weights) not in (3, 4) or len(biases) not in (0, len(weights)):
        return
    for order in permutations(range(len(weights))):
        own = dict(zip(_SEPARATE, order, strict=False))
        yield {
            **{f"{name}.weight": weights[k] for name, k in own.items()},
            **{f"{name}.bias": biases[k] for name, k in own.items() if biases},
        }


def _joint(
    weights: Sequence[str], biases: Sequence[str], arrays: Mapping[str, Array]
) -> Iterator[Parameters]:
    if len(weights) in (1, 2) and len(biases) in (0, len(weights)):
        by_size = [sorted(names, key=lambda name: -arrays[name].size) for names in (weights, biases)]
        yield {
            **dict(zip(_JOINT_WEIGHTS, by_size[0], strict=False)),
            **dict(zip(_JOINT_BIASES, by_size[1], strict=False)),
        }


def _sketches(name: str, x: Array, arrays: Mapping[str, Array], parameters: Parameters) -> Iterator[Sketch]:
    """Yield attention with these parameters, for each layout of the weights and each number of heads."""
    _, tokens, width = x.shape
    kind = GroupedAttention if "q_proj.weight" in parameters else MultiheadAttention
    has_bias = any("bias" in own for own in parameters)
    has_output = bool({"o_proj.weight", "out_proj.weight"} & set(parameters))
    heads = (count for count in range(1, width + 1) if width % count == 0)
    for count, causal in product(heads, (False, True)):
        builder = begun("attention", x.shape[1:])
        softmax = Softmax.causal(tokens) if causal else Softmax.plain()
        of = kind(
            tokens=tokens, width=width, heads=count, softmax=softmax, bias=has_bias, out_proj=has_output
        )
        of.build(named(builder, parameters), INPUT)
        told = f"{'causal ' * causal}self-attention with {count} head{'s' * (count > 1)}"
        for layout in (transposed, as_it_is):
            forms: dict[str, Form] = {name: reshaped(*x.shape)}
            forms |= {each: layout if each in _weights(parameters) else reshaped(-1) for each in arrays}
            yield Sketch(told, builder, x, forms, {name: INPUT})


def _weights(parameters: Parameters) -> set[str]:
    return {name for own, name in parameters.items() if own.endswith("weight")}
