"""The base class of all layers in a spec, and the types of their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.step import Step
from gradcheck_cli.spec.layers.fixed import Fixed, Key
from gradcheck_cli.spec.model import Index, Model, Name, Size


class LayerItem(Model):
    """An item of `layers` in a spec. All its keys except `name` are options of the layer's step.

    name: The prefix of the layer's parameters, `<name>.weight`. By default, the kind and a number.
    """

    kind: ClassVar[str]
    """The key that identifies the kind of layer."""

    step: ClassVar[type[Step]]
    """The step of a layer that is a single step, perhaps with more steps around it."""

    added: ClassVar[frozenset[str]] = frozenset()
    """The keys of masks that are added to numbers. True and −∞ leave a number out, and false adds 0."""

    name: Name | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options of the layer's step, by name."""
        return {key: getattr(self, key) for key in type(self).model_fields if key != "name"}

    @property
    def inner(self) -> tuple[LayerItem, ...]:
        """The layers inside this one."""
        return ()

    @property
    def fixed(self) -> Mapping[Key, Fixed]:
        """The arrays that the spec gives to this layer, by key."""
        return {}

    @property
    def default_name(self) -> str:
        """The word with which an unnamed layer's name begins. A number follows the word."""
        return self.kind

    def build(self, builder: Builder, value: int) -> int:
        """Add the layer's nodes to the network and return the index of its output.

        By default, the layer is one step. A layer of several steps overrides this method.

        value: the index of the layer's input.
        """
        step = self.step.of(builder.features(value), **self.options)
        return builder.add(step, value)


def switch(value: object) -> object:
    """Expand `true` to an empty mapping and `false` to None."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _pair(value: object) -> object:
    """Expand a single number to a pair of equal numbers, for height and width."""
    return (value, value) if type(value) is int else value


Pair = Annotated[
    tuple[Size, Size], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]

Padding = Annotated[
    tuple[Index, Index], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]
