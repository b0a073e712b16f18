"""The shape of an array."""

Shape = tuple[int, ...]
