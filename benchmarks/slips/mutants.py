"""Random changes of a function's source, as a person may make them by mistake."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield every simple change of the source: a description, and the changed source."""
    tree = ast.parse(source)
    names = sorted(
        {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        - {"np", "slice", "range", "len", "reversed"}
    )
    for k, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node, names):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[k]
            change(target, changed)
            yield f"{getattr(node, 'lineno', 0)}: {what}", ast.unparse(ast.fix_missing_locations(changed))


def _changes(node, names):
    if isinstance(node, ast.BinOp):
        for operator in (ast.Add, ast.Sub, ast.Mult, ast.Div):
            if not isinstance(node.op, (operator, ast.MatMult)):
                yield f"{ast.unparse(node)}: {operator.__name__}", _set("op", operator())
        if not isinstance(node.op, ast.MatMult):
            for side in ("left", "right"):
                yield f"{ast.unparse(node)}: only {side}", _replaced(side)
    if isinstance(node, ast.AugAssign):
        yield f"{ast.unparse(node)}: = for +=", _assigned
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for other in names:
            if other != node.id:
                yield f"{node.id}: {other}", _set("id", other)
    if isinstance(node, ast.Attribute) and node.attr in ("sum", "mean"):
        yield f"{ast.unparse(node)}: other reduction", _set("attr", {"sum": "mean", "mean": "sum"}[node.attr])
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield f"{ast.unparse(node)}: no T", _replaced("value")
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
        for value in (node.value + 1, node.value - 1):
            yield f"{node.value}: {value}", _set("value", value)
    if isinstance(node, ast.UnaryOp):
        yield f"{ast.unparse(node)}: no sign", _replaced("operand")


def _set(field, value):
    return lambda target, _: setattr(target, field, value)


def _replaced(field):
    def change(target, tree):
        _swap(tree, target, getattr(target, field))

    return change


def _assigned(target, tree):
    _swap(tree, target, ast.Assign([target.target], target.value))


def _swap(tree, old, new):
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
            elif isinstance(value, list) and any(each is old for each in value):
                setattr(node, name, [new if each is old else each for each in value])
