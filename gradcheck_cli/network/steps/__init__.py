"""The kinds of steps."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.reshape import Flatten

STEPS: Mapping[str, type[Step]] = {
    "units": Dense,
    "conv2d": Conv2d,
    "flatten": Flatten,
    "max_pool2d": MaxPool2d,
    "embedding": Embedding,
}
"""The step of each layer of a spec that is a single step, by the key that names its kind."""
