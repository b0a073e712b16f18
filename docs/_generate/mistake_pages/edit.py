"""A mistake put into a right program."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache, cached_property
from textwrap import dedent, indent


@dataclass(frozen=True)
class Edit:
    """A right program, and wrong statements for it.

    The last wrong statement assigns a variable. The wrong statements replace the right program's last
    assignment of that variable. If they read the variable first, as in `dL_dw = dL_dw.T`, they are inserted
    after it instead. A wrong `+=` replaces a right one.
    """

    program: str
    code: str

    @cached_property
    def _name(self) -> str:
        return [name for statement in _statements(self.code) for name in _assigned(statement)][-1]

    @cached_property
    def _place(self) -> ast.stmt | None:
        """The right program's last statement that assigns the variable, inside a loop or outside."""
        return _last_assignments(self.program).get(self._name)

    @property
    def _indent(self) -> str:
        assert self._place is not None
        return " " * self._place.col_offset

    @cached_property
    def _follows(self) -> bool:
        first = next(each for each in _statements(self.code) if self._name in _assigned(each))
        if isinstance(first, ast.AugAssign) and isinstance(self._place, ast.AugAssign):
            return False
        return self._name in _read(first)

    @property
    def fits(self) -> bool:
        """Whether the right program assigns the variable."""
        return self._place is not None

    @property
    def _around(self) -> tuple[list[str], list[str], list[str]]:
        """The lines before the right statement, those of the statement, and those after it."""
        assert self._place is not None
        lines, start, end = self.program.splitlines(), self._place.lineno - 1, self._place.end_lineno
        return lines[:start], lines[start:end], lines[end:]

    @property
    def right(self) -> str:
        """The right statement."""
        return dedent("\n".join(self._around[1]))

    @property
    def wrong(self) -> str:
        """The wrong statement, which replaces the right one or follows it."""
        return f"{self.right}\n{self.code}" if self._follows else self.code

    @property
    def result(self) -> str:
        """The whole program with the mistake."""
        before, _, after = self._around
        return "\n".join([*before, indent(self.wrong, self._indent), *after]) + "\n"

    @property
    def lines(self) -> tuple[int, int]:
        """The first and the last line of the wrong statements in `result`, counted from 1."""
        last = len(self._around[0]) + self.wrong.count("\n") + 1
        return last - self.code.count("\n"), last


@cache
def _statements(code: str) -> list[ast.stmt]:
    return ast.parse(code).body


@cache
def _last_assignments(program: str) -> dict[str, ast.stmt]:
    """Return the last statement that assigns each variable, inside a loop or outside."""
    inside = (each.body if isinstance(each, ast.For) else [each] for each in _statements(program))
    return {name: each for statements in inside for each in statements for name in _assigned(each)}


def _assigned(statement: ast.stmt) -> list[str]:
    """Return the variables that a statement assigns, in order; none for a loop."""
    if isinstance(statement, ast.For):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [name for target in targets if target for name in _changed(target)]


def _changed(target: ast.expr) -> list[str]:
    """Return the variables that an assignment to this target changes: a and b for `a[i], b = …`."""
    if isinstance(target, ast.Tuple):
        return [name for each in target.elts for name in _changed(each)]
    while isinstance(target, ast.Subscript):
        target = target.value
    return [target.id] if isinstance(target, ast.Name) else []


def _read(statement: ast.stmt) -> set[str]:
    """Return the variables that a statement reads."""
    loaded = {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return loaded | set(_assigned(statement) if isinstance(statement, ast.AugAssign) else ())
