"""Guess from array shapes which parameters the arrays with unknown names hold."""

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
    """A guess at which parameters the arrays of a file hold.

    pairs: maps the names of arrays in the file to the names of parameters of the same shape.
    guessed: the names of the arrays that share their shape with other arrays. They are paired with parameters
        in order, which is only a guess.
    layout: the weight layout in which the shapes match.
    """

    pairs: Mapping[str, str]
    guessed: tuple[str, ...]
    layout: Layout = "out_in"

    def complaint(self, source: Named, section: str, author: str, where: Location) -> Complaint:
        """Return a complaint whose help message is the line to paste into the spec.

        source: the part of the spec that names the file.
        section: the section of the spec that contains `source`.
        author: the name of the file in the message.
        where: the place in the spec that the complaint points at.
        """
        found = f"{author} uses names that the network does not have: {listed(self.pairs)}"
        names = ", ".join(f"{_word(theirs)}: {_word(ours)}" for theirs, ours in self._all(source).items())
        layout = "" if self.layout == source.layout else f", layout: {self.layout}"
        help = f"the shapes suggest these names; under '{section}', add names: {{{names}}}{layout}"
        if self.guessed:
            help += f"   (check {listed(self.guessed)}: several arrays have the same shape)"
        return Complaint(found, where, help)

    def _all(self, source: Named) -> Mapping[str, str]:
        return {**source.names, **self.pairs}


def by_shape(held: Shapes, needed: Shapes, optional: Shapes) -> OtherNames:
    """Pair arrays that have unknown names with parameters that lack an array, by their shapes.

    held: the shapes of the arrays.  needed, optional: the shapes of the parameters.
    An optional parameter is paired only if no other array or parameter shares its shape, and if at least one
    needed parameter was paired.
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
    """Yield, for each shape, the names of the arrays and of the parameters that have the shape.

    An array that is a column or row counts as a vector, unless some parameter has exactly the shape of the
    array. The parameters of the first layer come first, as in most files, although `wanted` has the output
    layer first.
    """
    shapes = set(wanted.values())
    alike = {name: shape if shape in shapes else as_vector(shape) for name, shape in held.items()}
    for shape in dict.fromkeys(wanted.values()):
        yield _having(shape, alike), _having(shape, wanted)[::-1]


def _having(shape: Shape, among: Shapes) -> list[str]:
    return [name for name, its_own in among.items() if its_own == shape]


def without(shapes: Shapes, names: Collection[str]) -> Shapes:
    """Return `shapes` without the entries for `names`."""
    return {name: shape for name, shape in shapes.items() if name not in names}


_PLAIN = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)$)[A-Za-z_][\w.-]*", re.IGNORECASE | re.ASCII)


def _word(name: str) -> str:
    """Return a name as a YAML string, with quotes only if YAML would otherwise not read it as a string."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)
