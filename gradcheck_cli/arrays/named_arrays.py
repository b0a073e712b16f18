"""Read the arrays of a file, translating its author's names and weight layout to gradcheck's."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from gradcheck_cli.arrays.npy import read_npy_folder, read_npz
from gradcheck_cli.arrays.other_names import OtherNames, by_shape, without
from gradcheck_cli.arrays.safetensors_file import read_safetensors
from gradcheck_cli.arrays.shapes import as_vector, listed, match_shapes, shape_text
from gradcheck_cli.arrays.stored import Accept, Header, Place, as_they_are, refuse_absent
from gradcheck_cli.errors import Complaint, Gathered, InputError, Location, bad_input, did_you_mean, shortened
from gradcheck_cli.spec.arrays import LAYOUTS, ArrayFile, Named
from gradcheck_cli.types import Array, Shape


def read_array_file(file: Path, where: Location, accept: Accept = as_they_are) -> dict[str, Array]:
    """Return the arrays of an .npz file, a .safetensors file or a folder of .npy files by name.

    accept: a function that checks the headers before any array is read.
    Raises an `InputError` that points at `where` if the file cannot be read or `accept` refuses it.
    """
    if os.path.isdir(file):
        return read_npy_folder(file, where, accept)
    if file.suffix == ".npy" and os.path.exists(file):
        expected = "an .npz file, a .safetensors file or a folder of .npy files"
        message = f"'{file.name}' is a single array; expected {expected}"
        raise bad_input(message, *where, help="name its folder instead")
    if file.suffix == ".safetensors":
        return read_safetensors(file, where, accept)
    return read_npz(file, where, accept=accept)


def read_named(source: ArrayFile, section: str) -> dict[str, Array]:
    """Return the arrays of a file, keyed by gradcheck's names, with weights as [out, in], in any shape.

    section: the section of the spec that names the file.
    Raises `InputError` if the file cannot be read, or lacks an array that the spec names.
    """
    dialect = Dialect(source, section)
    dialect.refuse_unfit()
    return dialect.ours(_read(source.file, dialect, as_they_are))


def read_fitting(
    source: ArrayFile,
    section: str,
    what: str,
    shapes: Mapping[str, Shape],
    needed: Collection[str] | None = None,
    if_missing: str | None = None,
) -> dict[str, Array]:
    """Return the arrays of a file, keyed by gradcheck's names. Each array must have the required shape.

    section: the section of the spec that names the file.
    what: the word for an array in messages, such as "parameter".
    shapes: the required shapes of all allowed arrays, by gradcheck's names.
    needed: the names of the arrays that must be present; by default all.
    if_missing: the help for a missing array.
    Raises an `InputError` that lists every missing, extra and misshapen array, by the file's own names.
    """
    dialect = Dialect(source, section)
    dialect.refuse_unfit(shapes)
    needed = shapes if needed is None else needed
    author = Author(source.file.name, (section, "file"), dialect)

    def accept(headers: Mapping[str, Header]) -> None:
        author.refuse_misfits(headers, shapes, needed, what, if_missing)

    needless = [name for name in shapes if name not in needed]
    return author.ours(_read(source.file, dialect, accept, needless), shapes)


@dataclass(frozen=True)
class Author:
    """A file or the user's code, whose arrays have their own names and layout.

    called: the name of the file or code in messages.  where: the place in the spec that mentions the author.
    """

    called: str
    where: Location
    dialect: Dialect

    def ours(self, arrays: Mapping[str, Array], shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Translate arrays to gradcheck's names and layout.

        arrays: the arrays by the author's names, already checked with `refuse_misfits`.
        shapes: the required shapes, by gradcheck's names.
        """
        theirs = self.dialect.shapes(shapes)
        return self.dialect.ours({name: array.reshape(theirs[name]) for name, array in arrays.items()})

    def refuse_misfits(
        self,
        given: Mapping[str, Header],
        shapes: Mapping[str, Shape],
        needed: Collection[str] | None,
        what: str,
        if_missing: str | None,
    ) -> None:
        """Raise an `InputError` if arrays are missing, unexpected or misshapen.

        If arrays with unknown names have the shapes of missing arrays, the error suggests which names to map.
        given: the headers of the arrays, by the author's names.
        shapes: the required shapes of all allowed arrays, by gradcheck's names.
        needed: the names of the arrays that must be present; by default all.
        what: the word for an array in messages, such as "parameter".
        if_missing: the help for a missing array.
        """
        needed = shapes if needed is None else needed
        dialect, theirs = self.dialect, self.dialect.shapes(shapes)
        must = {dialect.name(ours) for ours in needed}
        given = {name: _as_needed(header, theirs.get(name)) for name, header in given.items()}
        other, found = _other_names(dialect, given, shapes, needed), Gathered()
        if len(must) > 1 and not other.pairs and must.isdisjoint(given):
            missing = {name: shape for name, shape in theirs.items() if name in must}
            raise self._none_of_them(given, missing, what, if_missing)
        with found:
            if other.pairs:
                raise InputError(other.complaint(dialect.source, dialect.section, self.called, self.where))
        with found:
            match_shapes(
                {name: header for name, header in given.items() if name not in other.pairs},
                {
                    name: shape
                    for name, shape in theirs.items()
                    if name in given or (name in must and name not in other.pairs.values())
                },
                what,
                self.where,
                if_missing,
                {dialect.name(ours): dialect.if_transposed for ours in shapes if _is_weight(ours)},
            )
        found.raise_any()

    def _none_of_them(
        self, given: Collection[str], needed: Mapping[str, Shape], what: str, if_missing: str | None
    ) -> InputError:
        """Return the error for a file that contains none of the required arrays."""
        message = f"{self.called} holds none of the {what}s: it holds {listed(given)}"
        shapes = listed(f"{name} {shape_text(shape)}" for name, shape in needed.items())
        help = f"save an array for each of {shapes}"
        return bad_input(message, *self.where, help=f"{help}; or {if_missing}" if if_missing else help)


@dataclass(frozen=True)
class OwnParameters:
    """The parameters that the user's code defines, by the code's own names."""

    arrays: Mapping[str, Array]
    author: Author

    def fitting(self, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Return the parameters in gradcheck's layout, keyed by gradcheck's names.

        shapes: the shapes that the network requires, by gradcheck's names.
        Raises `InputError` if the names or the shapes do not fit.
        """
        help = "map its name to a parameter under 'names', or add a 'parameters' section to the spec"
        headers = {name: Header(name, array.shape, array.dtype) for name, array in self.arrays.items()}
        self.author.refuse_misfits(headers, shapes, None, "parameter", help)
        return self.author.ours(self.arrays, shapes)


def _as_needed(header: Header, needed: Shape | None) -> Header:
    """Return the header with the needed shape if its own shape is a common variant of the needed one.

    Otherwise the header is returned unchanged. A variant is a vector stored as a column or row, or a single
    number stored with one or two axes.
    """
    as_number = () if header.shape in ((1,), (1, 1)) else header.shape
    fits = needed is not None and needed in (as_vector(header.shape), as_number)
    return replace(header, shape=needed) if fits and needed is not None else header


def _other_names(
    dialect: Dialect, given: Mapping[str, Header], shapes: Mapping[str, Shape], needed: Collection[str]
) -> OtherNames:
    """Guess, from the arrays' shapes, which parameters the arrays hold, and in which layout.

    Only arrays with unknown names are considered.
    """
    layouts = (dialect.source.layout, *(each for each in LAYOUTS if each != dialect.source.layout))
    named = {dialect.name(ours) for ours in shapes}
    held = {name: header.shape for name, header in given.items() if name not in named}
    found = []
    for layout in layouts:
        turned = replace(dialect, source=dialect.source.model_copy(update={"layout": layout}))
        absent = {
            ours: turned.shape(ours, shape)
            for ours, shape in shapes.items()
            if dialect.name(ours) == ours and ours not in given
        }
        must = {ours: shape for ours, shape in absent.items() if ours in needed}
        found.append(replace(by_shape(held, must, without(absent, must)), layout=layout))
    return max(found, key=lambda other: len(other.pairs))


def _read(file: Path, dialect: Dialect, accept: Accept, needless: Collection[str] = ()) -> dict[str, Array]:
    """Return all arrays of the file, keyed by the file's own names.

    Raises `InputError` if the file lacks an array that appears in the spec's `names`.
    needless: gradcheck's names for the arrays that may be missing even if `names` lists them.
    """
    place = Place(file, (dialect.section, "file"))
    named = [theirs for theirs, ours in dialect.source.names.items() if ours not in needless]

    def accept_names(headers: Mapping[str, Header]) -> None:
        refuse_absent(headers, {name: dialect.place(name) for name in named}, place)
        dialect.refuse_hidden(headers)
        accept(headers)

    return read_array_file(place.file, place.where, accept_names)


@dataclass(frozen=True)
class Dialect:
    """Translates an author's array names and weight layout to and from gradcheck's.

    gradcheck's names look like `layer.weight`, and its weights are [out, in].
    source: the part of the spec that defines the author's names and layout.
    section: the section of the spec that contains `source`.
    """

    source: Named
    section: str

    @cached_property
    def _theirs(self) -> Mapping[str, str]:
        return {ours: theirs for theirs, ours in self.source.names.items()}

    @property
    def says_otherwise(self) -> bool:
        """Whether the author's layout or any of the author's names differs from gradcheck's."""
        return bool(self.source.names) or self.source.layout != "out_in"

    def name(self, ours: str) -> str:
        """Return the author's name for an array, from gradcheck's name."""
        return self._theirs.get(ours, ours)

    def of(self, theirs: str) -> str:
        """Return gradcheck's name for an array, from the author's name."""
        return self.source.names.get(theirs, theirs)

    def place(self, theirs: str) -> Location:
        """Return the place in the spec that maps the author's name `theirs`."""
        return (self.section, "names", theirs)

    def shape(self, ours: str, shape: Shape) -> Shape:
        """Return the shape of an array in the author's layout, from its shape in gradcheck's.

        ours: gradcheck's name for the array.
        """
        return shape[::-1] if self.turns(ours, len(shape)) else shape

    def shapes(self, ours: Mapping[str, Shape]) -> dict[str, Shape]:
        """Translate shapes from gradcheck's names and layout to the author's."""
        return {self.name(name): self.shape(name, shape) for name, shape in ours.items()}

    def ours(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Translate arrays from the author's names and layout to gradcheck's."""
        named = {self.of(name): array for name, array in arrays.items()}
        return {name: self._turned(name, array, array.ndim) for name, array in named.items()}

    def theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Translate arrays from gradcheck's names and layout to the author's."""
        return {self.name(name): self._turned(name, array, array.ndim) for name, array in arrays.items()}

    def stacks_of_ours(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Translate stacks of arrays from the author's names and layout to gradcheck's.

        The first axis of a stack counts evaluation points.
        """
        named = {self.of(name): array for name, array in arrays.items()}
        return {name: self._turned(name, array, array.ndim - 1) for name, array in named.items()}

    def stacks_of_theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {self.name(name): self._turned(name, array, array.ndim - 1) for name, array in arrays.items()}

    def _turned(self, ours: str, array: Array, axes: int) -> Array:
        """Return the array, with its last two axes swapped if it is a weight and the layouts differ.

        axes: the number of axes, not counting an axis of evaluation points.
        """
        return np.ascontiguousarray(np.swapaxes(array, -1, -2)) if self.turns(ours, axes) else array

    def turns(self, ours: str, axes: int) -> bool:
        """Return whether the author's array is the transpose of gradcheck's.

        ours: gradcheck's name for the array.  axes: the number of axes of the array.
        """
        return self.source.layout == "in_out" and axes == 2 and _is_weight(ours)

    @property
    def if_transposed(self) -> str:
        """The help message for a weight that the author stored in transposed form."""
        if self.source.layout == "in_out":
            return "with 'layout: in_out', weights are [in, out]; use the array's .T, or leave 'layout' out"
        return "weights are [out, in], as in PyTorch; use the array's .T, or add 'layout: in_out'"

    def refuse_unfit(self, known: Collection[str] | None = None) -> None:
        """Raise an `InputError` that lists every entry of the spec's `names` that cannot be right.

        An entry cannot be right if its target is unknown or if another entry has the same target. If the
        network has a parameter `a` to which no array is mapped, an entry that maps the name `a` to another
        parameter cannot be right, either.
        known: gradcheck's names of all arrays that may be mapped, or None if they are not known.
        """
        complaints = [*self._double()]
        if known is not None:
            complaints += [*self._unknown(known), *self._in_the_way(known)]
        if complaints:
            raise InputError(*complaints)

    def _double(self) -> Iterator[Complaint]:
        for theirs, ours in self.source.names.items():
            first = next(name for name, target in self.source.names.items() if target == ours)
            if first != theirs:
                message = f"'{shortened(first)}' and '{shortened(theirs)}' both stand for '{shortened(ours)}'"
                yield Complaint(message, self.place(theirs))

    def _unknown(self, known: Collection[str]) -> Iterator[Complaint]:
        for theirs, ours in self.source.names.items():
            if ours not in known:
                message = f"'{shortened(ours)}' is not a parameter"
                help = did_you_mean(ours, known) or f"the parameters are {listed(known)}"
                yield Complaint(message, self.place(theirs), help)

    def _in_the_way(self, known: Collection[str]) -> Iterator[Complaint]:
        """Yield a complaint for each mapped name that is also the name of a parameter without an array.

        For example, if `names` maps `a` to `b` but no name to `a`, then there is no array for the parameter
        `a`.
        """
        for theirs, ours in self.source.names.items():
            if theirs in known and theirs not in self._theirs:
                message = (
                    f"'names' maps '{theirs}' to '{shortened(ours)}', "
                    f"but maps no array to the network's own '{theirs}'"
                )
                help = f"add an entry for '{theirs}': NAME_IN_FILE: {theirs}"
                yield Complaint(message, self.place(theirs), help)

    def refuse_hidden(self, given: Collection[str]) -> None:
        """Raise an `InputError` if an array of the file has a name to which the spec maps another array.

        given: the names of the arrays in the file.
        """
        complaints = [
            Complaint(
                f"'names' maps '{shortened(theirs)}' to '{shortened(ours)}', "
                "but the file has an array of each name",
                self.place(theirs),
            )
            for theirs, ours in self.source.names.items()
            if theirs in given and ours in given and ours not in self.source.names
        ]
        if complaints:
            raise InputError(*complaints)


def _is_weight(name: str) -> bool:
    return name.endswith(".weight")
