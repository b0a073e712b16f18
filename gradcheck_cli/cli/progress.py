"""How far a long check is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gradcheck_cli.cli.terminal import printable
from gradcheck_cli.errors import shortened
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.view import ascii_only

WIDE = 80
"""Columns enough for the bar and the rate."""


@dataclass
class Progress:
    """A bar on stderr, on a terminal, once a check has taken longer than a second."""

    title: str
    color: bool = False
    patience: float = 1.0
    noun: str = "evaluations"
    _expected: int = 0
    _done: int = 0
    _bar: Any = None
    _task: Any = None

    def __enter__(self) -> Progress:
        self._start = monotonic()
        return self

    def expect(self, evaluations: int) -> None:
        self._expected += evaluations

    def advance(self, evaluations: int) -> None:
        self._done += evaluations
        if self._bar is None and sys.stderr.isatty() and monotonic() - self._start > self.patience:
            self._open()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, total=self._expected)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task
        from rich.text import Text

        patience, noun = self.patience, self.noun
        console = Console(stderr=True, no_color=not self.color, markup=False)
        wide = console.width >= WIDE

        class Rate(ProgressColumn):
            """rich's own starts anew whenever more is expected."""

            def render(self, task: Task) -> Text:
                per_second = task.completed / ((task.elapsed or 0.0) + patience)
                left = (task.remaining or 0.0) / max(per_second, 1e-9)
                rate = f", {_rate(per_second)} {noun}/s" if wide else ""
                return Text(f"{_time(left)} left{rate}", "progress.remaining")

        title_column, _, percentage, *_ = Progress.get_default_columns()
        columns: tuple[ProgressColumn, ...] = (title_column, BarColumn(20), percentage, Rate())
        if not wide or ascii_only(sys.stderr):
            columns = tuple(column for column in columns if not isinstance(column, BarColumn))
        self._bar = Progress(*columns, console=console, transient=True)
        room = max(1, console.width - (60 if wide else 20))  # the numbers are never cut
        title = printable(shortened(escaped(os.path.basename(self.title)), room), sys.stderr)
        title = title.replace("[", r"\[")  # the column reads markup
        self._task = self._bar.add_task(title, completed=self._done, total=self._expected)
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _rate(per_second: float) -> str:
    """``1,234``, ``0.2``"""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def _time(seconds: float) -> str:
    """``90 s``, ``34 min``"""
    return f"{seconds:,.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"
