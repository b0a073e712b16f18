"""Shell completion of specs, of their layers and parameters, and of report files.

click completes everything else: commands, options, and choices.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from gradcheck_cli.errors import InputError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete file names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_specs(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete YAML files and folders. If a folder is the only completion, offer its contents as well.

    Shells append a space to a sole completion, which would get in the way after a folder.
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
    """Complete the names of parameters in the specs before the cursor, without running any code."""
    return _matching(incomplete, (name for node in _nodes(context) for name in node.names.values()))


def complete_layers(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of layers in the spec before the cursor."""
    return _matching(incomplete, (node.layer for node in _nodes(context)))


def _matching(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _nodes(context: click.Context) -> Iterator[Any]:
    """Yield the graph nodes of the network in each spec on the command line.

    Specs that cannot be read or have no network are skipped.
    """
    from gradcheck_cli.problem.layers import graph_of
    from gradcheck_cli.spec.file import read_spec

    named = context.params.get("specs") or context.params.get("spec") or context.args
    for path in [named] if isinstance(named, str) else named:
        if os.path.isfile(path):  # not a folder of specs, and not the terminal itself
            with suppress(InputError):
                network = read_spec(path).spec.network
                yield from graph_of(network).nodes if network else ()


def complete_reports(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete FORMAT=FILE with a file name for each format: `junit=report.xml`."""
    from gradcheck_cli.formats import FORMATS, suffix_of

    return _matching(incomplete, (f"{format}=report{suffix_of(format)}" for format in FORMATS))
