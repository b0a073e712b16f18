"""An executor that needs no other process."""

from __future__ import annotations

from concurrent.futures import Executor, Future


class Here(Executor):
    """An executor of an unknown package that does everything at once, in this process."""

    calls = 0

    def submit(self, function, *arguments):
        self.calls += 1
        future: Future[bytes] = Future()
        future.set_result(function(*arguments))
        return future
