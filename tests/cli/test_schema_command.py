"""`gradcheck schema` prints the schema that `test_schema.py` checks."""

from __future__ import annotations

from gradcheck_cli import __version__
from gradcheck_cli.spec.schema import json_schema


def test_only_the_schema_is_on_stdout_in_ascii(gradcheck):
    done = gradcheck("schema")
    assert (done.code, done.err) == (0, "")
    assert done.document == json_schema(__version__)
    assert done.out.isascii()  # for every locale and redirection
