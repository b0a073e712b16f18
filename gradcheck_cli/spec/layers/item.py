"""The base of all layers of a spec, and the types of their options."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.steps import STEPS
from gradcheck_cli.spec.model import Index, Model, Name, Size


class LayerItem(Model):
    """A line of `layers`. The keys are the options of its step, except for the name.

    name: The prefix of its parameters, `<name>.weight`. By default the kind and a number.
    """

    kind: ClassVar[str]
    """The key that names the kind."""

    name: Name | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that the step of this kind takes."""
        return {key: getattr(self, key) for key in type(self).model_fields if key != "name"}

    @property
    def inner(self) -> tuple[LayerItem, ...]:
        """The layers inside this one."""
        return ()

    @property
    def default_name(self) -> str:
        """The beginning of the name it gets if it has none of its own."""
        return self.kind

    def build(self, builder: Builder, value: int) -> int:
        """Add the nodes of this layer, given its input; return its output."""
        step = STEPS[self.kind].of(builder.features(value), **self.options)
        return builder.add(step, value)


def _pair(value: object) -> object:
    """Expand a number to the same number for height and width."""
    return (value, value) if type(value) is int else value


Pair = Annotated[
    tuple[Size, Size], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]

Padding = Annotated[
    tuple[Index, Index], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]
