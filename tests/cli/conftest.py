"""Fixtures that run the command in this process, in a folder with a spec for every exit code."""

from __future__ import annotations

from test_cli import environment, folder, gradcheck, right

__all__ = ["environment", "folder", "gradcheck", "right"]
