"""Layers that move numbers without arithmetic."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from gradcheck_cli.spec.layers.item import LayerItem


class FlattenSpec(LayerItem):
    """Every sample becomes one row of numbers, as dense layers need it. `flatten` alone is enough.

    flatten: Always true.
    """

    kind: ClassVar[str] = "flatten"

    flatten: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        return {}
