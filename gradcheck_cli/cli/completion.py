"""What a shell completes: the names of specs, and of the parameters of the spec that is on the line.

The rest it has from click: commands, options, and whatever is one of a list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from gradcheck_cli.errors import InputError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_specs(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """YAML files and folders. A folder that is the only choice comes with what is in it.

    Shells put a space behind what is the only choice, and behind a folder that would be in the way.
    """
    found = list(_beginning_with(incomplete))
    while len(found) == 1 and found[0].endswith("/") and (inside := list(_beginning_with(found[0]))):
        found = [*found, *inside] if len(inside) > 1 else inside
    return found


def _beginning_with(incomplete: str) -> Iterator[str]:
    folder, start = os.path.split(incomplete)
    with suppress(OSError):
        for entry in sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name):
            hidden = entry.name.startswith(".") and not start.startswith(".")
            if entry.name.startswith(start) and not hidden:
                path = os.path.join(folder, entry.name)
                if entry.is_dir():
                    yield f"{path}/"
                elif entry.name.endswith((".yaml", ".yml")):
                    yield path


def complete_parameters(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The parameters of the networks of the specs that stand before the cursor; no code is run for them."""
    named = context.params.get("specs") or context.params.get("spec") or context.args
    paths = [named] if isinstance(named, str) else named
    names = dict.fromkeys(name for path in paths for name in _parameters_of(path))
    return [name for name in names if name.startswith(incomplete)]


def _parameters_of(path: str) -> Iterable[str]:
    from gradcheck_cli.model.problem import layers_of
    from gradcheck_cli.spec_file import read_spec

    network = None
    if os.path.isfile(path):  # neither a folder of many, nor the terminal that is typed at
        with suppress(InputError):
            network = read_spec(path).spec.network
    return [name for layer in layers_of(network) for name in layer.shapes] if network else []
