"""Match arrays with unknown names to parameters by their shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gradcheck_cli.arrays.shapes import as_vector, listed
from gradcheck_cli.errors import Complaint, Location
from gradcheck_cli.spec.arrays import Layout, Named
from gradcheck_cli.types import Shape

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class OtherNames:
    """The likely parameters behind the arrays of a file.

    pairs: names in the file, each with the parameter of the same shape.
    guessed: names of `pairs` that share their shape with others and are paired in order.
    layout: the layout in which the shapes match.
    """

    pairs: Mapping[str, str]
    guessed: tuple[str, ...]
    layout: Layout = "out_in"

    def complaint(self, source: Named, section: str, author: str, where: Location) -> Complaint:
        """Return one error that includes the line to paste."""
        found = f"{author} uses different names from the network: {listed(self.pairs)}"
        names = ", ".join(f"{_word(theirs)}: {_word(ours)}" for theirs, ours in self._all(source).items())
        layout = "" if self.layout == source.layout else f", layout: {self.layout}"
        help = f"matched by shape; add under {section}: names: {{{names}}}{layout}"
        if self.guessed:
            help += f"   (check {listed(self.guessed)}, which share their shape with others)"
        return Complaint(found, where, help)

    def _all(self, source: Named) -> Mapping[str, str]:
        return {**source.names, **self.pairs}


def by_shape(held: Shapes, needed: Shapes, optional: Shapes) -> OtherNames:
    """Pair arrays of unknown name with parameters that have no array, by their shapes.

    Optional parameters are paired only if the match is unique and some needed parameter was found.
    """
    pairs: dict[str, str] = {}
    guessed: list[str] = []
    for wanted, most in ((needed, len(needed)), (optional, 1)):
        if wanted is optional and not pairs:
            break
        for theirs, ours in _groups(without(held, pairs), wanted):
            if len(theirs) == len(ours) <= most:
                pairs |= zip(theirs, ours, strict=True)
                guessed += theirs if len(theirs) > 1 else []
    return OtherNames({name: pairs[name] for name in held if name in pairs}, tuple(guessed))


def _groups(held: Shapes, wanted: Shapes) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the arrays and the parameters of each shape.

    If no parameter has the shape of a column or row, it is treated as a vector. The first layer comes first,
    as in most files; `wanted` has the output layer first.
    """
    shapes = set(wanted.values())
    alike = {name: shape if shape in shapes else as_vector(shape) for name, shape in held.items()}
    for shape in dict.fromkeys(wanted.values()):
        yield _having(shape, alike), _having(shape, wanted)[::-1]


def _having(shape: Shape, among: Shapes) -> list[str]:
    return [name for name, its_own in among.items() if its_own == shape]


def without(shapes: Shapes, names: Collection[str]) -> Shapes:
    """Return the shapes of all parameters except these."""
    return {name: shape for name, shape in shapes.items() if name not in names}


_PLAIN = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)$)[A-Za-z_][\w.-]*", re.IGNORECASE | re.ASCII)


def _word(name: str) -> str:
    """Quote the name if YAML would read it as something else."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)
