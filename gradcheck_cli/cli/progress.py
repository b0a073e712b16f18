"""Show the progress of a long check on a terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from threading import Lock, Timer
from time import monotonic
from typing import Any

from gradcheck_cli.cli.terminal import printable
from gradcheck_cli.errors import shortened
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.view import ascii_only

WIDE = 80
"""The smallest width of a terminal that has room for both the bar and the rate."""


@dataclass
class Progress:
    """A progress bar on stderr, shown only on a terminal and only after `patience` seconds.

    noun: the unit of the rate, such as ``entries`` in ``40 entries/s``.
    """

    title: str
    color: bool = False
    patience: float = 1.0
    noun: str = "evaluations"
    _expected: int = 0
    _done: int = 0
    _most: float = 0.0
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
            self._bar.update(self._task, completed=self._shown, total=100.0)

    @property
    def _shown(self) -> float:
        """The percentage shown.

        The percentage never falls, even if the total amount of work grows, and is 100 only at the end.
        """
        self._most = max(self._most, min(_LAST, 100.0 * self._done / max(1, self._expected)))
        return self._most

    def doing(self, what: str) -> None:
        """Ignore the description, since the bar shows only the share of the work that is done."""

    def spread_over(self, workers: int) -> None:
        """Ignore the number of workers, since only checks of user code have any."""

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task
        from rich.text import Text

        progress = self
        console = Console(stderr=True, no_color=not self.color, markup=False)
        wide = console.width >= WIDE

        class Rate(ProgressColumn):
            """A progress-bar column with the time left and, on a wide terminal, the rate.

            The column of rich itself starts over whenever the total grows.
            """

            def render(self, task: Task) -> Text:
                per_second = progress._done / ((task.elapsed or 0.0) + progress.patience)
                left = max(0, progress._expected - progress._done) / max(per_second, 1e-9)
                rate = f", {_rate(per_second)} {progress.noun}/s" if wide else ""
                return Text(f"{_time(left)} left{rate}", "progress.remaining")

        title_column, _, percentage, *_ = Progress.get_default_columns()
        columns: tuple[ProgressColumn, ...] = (title_column, BarColumn(20), percentage, Rate())
        if not wide or ascii_only(sys.stderr):
            columns = tuple(column for column in columns if not isinstance(column, BarColumn))
        self._bar = Progress(*columns, console=console, transient=True)
        title = _titled(
            self.title, max(1, console.width - (60 if wide else 20))
        )  # leaves room for the numbers
        self._task = self._bar.add_task(title, completed=self._shown, total=100.0)
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


_LAST = 99.0
"""The largest percentage shown while there is work left."""


@dataclass
class Activity:
    """A spinner on stderr that says what a check of user code is doing. It is shown only on a terminal.

    The spinner has no percentage, since the amount of work depends on which gradients disagree.
    """

    title: str
    color: bool = False
    patience: float = 1.0
    _what: str = "running the code"
    _done: int = 0
    _workers: int = 0
    _bar: Any = None

    def __enter__(self) -> Activity:
        self._lock, self._over, self._start = Lock(), False, monotonic()
        self._timer = Timer(self.patience, self._open)
        self._timer.daemon = True
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def expect(self, evaluations: int) -> None:
        """Ignore the estimate, since the total amount of work is not known."""

    def advance(self, evaluations: int) -> None:
        self._done += evaluations

    def doing(self, what: str) -> None:
        self._what = what

    def spread_over(self, workers: int) -> None:
        self._workers = workers

    def _so_far(self, seconds: float) -> str:
        """Format what has been done: ``4 workers, 1,200 evaluations, 60/s, 20 s``."""
        workers = f"{self._workers} workers" if self._workers > 1 else ""
        done = f"{self._done:,} evaluations" if self._done else ""
        rate = f"{_rate(self._done / seconds)}/s" if workers and done else ""
        return ", ".join(filter(None, (workers, done, rate, _time(seconds))))

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
        from rich.text import Text

        activity, plain = self, ascii_only(sys.stderr)
        console = Console(stderr=True, no_color=not self.color, markup=False)

        class What(ProgressColumn):
            def render(self, task: Task) -> Text:
                done = activity._so_far(monotonic() - activity._start)
                room = max(1, console.width - len(task.description) - len(done) - _BESIDE)
                what = printable(shortened(escaped(activity._what), room), sys.stderr)
                return Text(", ".join(filter(None, (what, done))))

        columns = (SpinnerColumn("line" if plain else "dots"), TextColumn("{task.description}", markup=False))
        with self._lock:
            if not self._over:
                self._bar = Progress(*columns, What(), console=console, transient=True)
                self._bar.add_task(
                    printable(shortened(escaped(os.path.basename(self.title)), 24), sys.stderr), total=None
                )
                self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()


_BESIDE = 6
"""The width that the spinner and the spaces between the columns take up."""


def _titled(title: str, room: int) -> str:
    """Return the name of the spec's file as the bar's title.

    The name is shortened to `room` characters, and escaped for a column that interprets markup.
    """
    return printable(shortened(escaped(os.path.basename(title)), room), sys.stderr).replace("[", r"\[")


def _rate(per_second: float) -> str:
    """Format a rate, such as ``1,234`` or ``0.2``."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def _time(seconds: float) -> str:
    """Format a time, such as ``90 s`` or ``34 min``."""
    return f"{seconds:,.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"
