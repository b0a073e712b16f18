"""The kinds of steps, one file each. To add a kind, write its file and its line in `STEPS`."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.reshape import Flatten

STEPS: Mapping[str, type[Step]] = {"units": Dense, "conv2d": Conv2d, "flatten": Flatten}
"""The step of each layer of a spec, by the key that names its kind."""
