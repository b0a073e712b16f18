"""Examples of every kind of step. A new kind adds its lines here, and the tests of all steps run on them.

An example is a step and, for each of its inputs, the shape of one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.reshape import Flatten
from gradcheck_cli.types import Array, Shape
from tests.network.step_kinds import KINDS, Draw

SAMPLES = 4
DRAWS = range(1000, 1003)
"""The seeds of the random steps of a kind."""


class Example(NamedTuple):
    """A step and the shapes of one sample of its inputs."""

    step: Step
    features: tuple[Shape, ...]


def _of(step: Step, *features: Shape) -> Example:
    return Example(step, features)


def _activation(name: str) -> Pointwise:
    return Pointwise(ACTIVATIONS[name].with_options())


EXAMPLES: dict[str, Example] = {
    "dense": _of(Dense(4, 3), (4,)),
    "dense at positions": _of(Dense(4, 3), (6, 4)),
    "dense at positions of two axes": _of(Dense(4, 3), (2, 3, 4)),
    "dense without bias": _of(Dense(4, 3, bias=False), (4,)),
    "conv2d": _of(Conv2d(2, 3, (3, 3)), (2, 6, 5)),
    "conv2d, padded": _of(Conv2d(2, 3, (3, 2), padding=(1, 1)), (2, 4, 5)),
    "conv2d, strided and dilated": _of(Conv2d(1, 2, (2, 3), (2, 1), (0, 1), (1, 2)), (1, 6, 7)),
    "conv2d, in groups": _of(Conv2d(4, 6, (2, 2), groups=2), (4, 4, 3)),
    "a kernel that leaves some numbers out": _of(Conv2d(1, 2, (2, 2), (3, 3)), (1, 7, 6)),
    "batch norm": _of(Normalise.over_batch(1e-5), (4,)),
    "batch norm of images": _of(Normalise.over_batch(1e-5, 3), (3, 2, 4)),
    "batch norm at positions": _of(Normalise.over_batch(1e-5, 2, -1), (3, 4)),
    "layer norm": _of(Normalise.over_features(1e-5, 1), (4,)),
    "layer norm at positions": _of(Normalise.over_features(1e-5, 1), (3, 4)),
    "layer norm over two axes": _of(Normalise.over_features(1e-3, 2), (3, 2, 4)),
    "scale": _of(Scale((4,)), (4,)),
    "scale of channels": _of(Scale.of_channels((3, 2, 4)), (3, 2, 4)),
    "scale at positions": _of(Scale((4,), names=("weight", "bias")), (3, 4)),
    "scale of two axes": _of(Scale((2, 4), names=("weight", "bias")), (3, 2, 4)),
    "flatten": _of(Flatten(3), (2, 3, 4)),
    "tanh": _of(_activation("tanh"), (4,)),
    "relu of images": _of(_activation("relu"), (2, 3, 4)),
    "softmax": _of(_activation("softmax"), (4,)),
    "softmax at positions": _of(_activation("softmax"), (3, 4)),
    "add": _of(Add(), (3, 4), (3, 4)),
    "max_pool2d": _of(MaxPool2d((2, 2), (2, 2)), (2, 4, 6)),
    "max_pool2d, overlapping and padded": _of(MaxPool2d((3, 2), (2, 1), (1, 1)), (2, 5, 4)),
    "max_pool2d, dilated": _of(MaxPool2d((2, 2), (1, 2), dilation=(2, 1)), (1, 5, 5)),
    "embedding": _of(Embedding(6, 3), (4,)),
    "embedding with padding": _of(Embedding(4, 3, padding_idx=1), (2, 3)),
}

RANDOM: dict[str, tuple[Example, ...]] = {
    kind: tuple(Example(*draw(Draw(seed))) for seed in DRAWS) for kind, draw in KINDS.items()
}
EVERY: dict[str, tuple[Example, ...]] = {
    **{name: (example,) for name, example in EXAMPLES.items()},
    **RANDOM,
}
"""The examples above and the random ones, by name or kind."""


class Drawn(NamedTuple):
    """A step with parameters and inputs."""

    step: Step
    parameters: dict[str, Array]
    inputs: tuple[Array, ...]

    @property
    def moved(self) -> dict[str, Array]:
        """The arrays that have a gradient: the parameters, and the inputs by number, except tokens."""
        inputs = {} if self.step.tokens else {str(k): x for k, x in enumerate(self.inputs)}
        return {**inputs, **self.parameters}


def on_every_step(promise: Callable[[Drawn], None]) -> Callable[[str], None]:
    """Turn a promise of a step into a test for each name in `EVERY`. A failure says which step failed."""

    @pytest.mark.parametrize("name", EVERY)
    def test(name: str) -> None:
        for number, example in enumerate(EVERY[name]):
            try:
                promise(drawn_from(example, len(name) + number))
            except Exception as failure:
                failure.add_note(f"{name}, step {number}: {example}")
                raise

    return test


def drawn_from(example: Example, seed: int) -> Drawn:
    step, features = example
    rng = np.random.default_rng(seed)
    parameters = {name: rng.normal(size=shape) for name, shape in step.shapes.items()}
    shapes = [(SAMPLES, *each) for each in features]
    tokens = step.tokens
    inputs = [rng.integers(tokens, size=s).astype(float) if tokens else rng.normal(size=s) for s in shapes]
    return Drawn(step, parameters, tuple(inputs))


def upstream_of(drawn):
    """Return the output of an example, and an upstream gradient for it."""
    out = drawn.step.forward(drawn.parameters, *drawn.inputs)
    return out, np.random.default_rng(7).normal(size=out.shape)
