"""`gradcheck schema`: print the JSON Schema of a spec."""

from __future__ import annotations

import click

from gradcheck_cli import __version__
from gradcheck_cli.cli.terminal import write_result
from gradcheck_cli.errors import ExitCode


@click.command(short_help="Print the JSON Schema of a spec, for editors.")
def schema() -> int:
    """Print the JSON Schema (draft-07) of a spec, so that your editor completes and checks specs.

    \b
    gradcheck schema > gradcheck.schema.json
    """  # noqa: D301 - click reads the escape as a mark
    return write_result(schema_text(), ExitCode.AGREES)


def schema_text() -> str:
    """Return the JSON Schema as indented text."""
    import json

    from gradcheck_cli.spec.schema import json_schema

    return json.dumps(json_schema(__version__), indent=2) + "\n"
