"""The choice between literal differences and directions depends only on time."""

from __future__ import annotations

from collections import Counter
from itertools import count

import numpy as np
import pytest

from gradcheck_cli import check, load_spec
from gradcheck_cli.directions.plan import plan, seconds_of
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.parallel.clock import Time
from gradcheck_cli.spec.check import CheckSpec


class Objective:
    """An objective with one tensor of 1,000 entries."""

    shapes = {"w": (10, 100)}  # noqa: RUF012
    batch = 16
    position = np.zeros(1000)

    def entries(self, name):
        return self

    def move(self, which, to):
        return Moved(np.zeros(len(which)), np.zeros(len(which)), np.zeros(len(which), dtype=bool))


def way(seconds, **how):
    return plan(Objective(), ["w"], CheckSpec(**how), ticking(seconds))


def ticking(processor, wall=None):
    """Return a clock that advances by these seconds between successive readings."""
    ticks = count()
    return lambda: Time((tick := next(ticks)) * processor, tick * (processor if wall is None else wall))


@pytest.mark.parametrize("load", [1, 2, 8, 15])
@pytest.mark.parametrize("seconds", [1e-4, 2e-3, 2.6e-3, 0.01, 1.0])
def test_other_work_on_the_machine_changes_neither_the_choice_nor_its_wording(seconds, load):
    idle = plan(Objective(), ["w"], CheckSpec(), ticking(seconds))
    assert plan(Objective(), ["w"], CheckSpec(), ticking(seconds, load * seconds)) == idle


def test_code_that_waits_for_a_device_or_a_server_counts_as_slow():
    assert plan(Objective(), ["w"], CheckSpec(), ticking(1e-4, 1.0)).way == "directions"


@pytest.mark.parametrize(
    ("seconds", "how", "expected"),
    [
        (1e-4, {}, "literal"),
        (1.0, {}, "directions"),
        (1e-4, {"fast": True}, "directions"),
        (1.0, {"differences": "literal"}, "literal"),
        (1.0, {"differences": "literal", "fast": True}, "literal"),
        (1.0, {"scheme": "central"}, "literal"),
        (1.0, {"step": 0.1}, "literal"),
        (1.0, {"scheme": "central", "fast": True}, "directions"),
    ],
)
def test_literal_differences_if_quick_or_requested(seconds, how, expected):
    assert way(seconds, **how).way == expected


def test_small_work_stays_in_this_process():
    assert way(1e-4).is_small
    assert not way(1.0).is_small
    assert way(1.0).each == 1.0


def test_the_reader_is_told_why():
    assert way(1e-4).told == ""
    assert "because checking every entry would take about 67 min" in way(1.0).told
    assert "about 11 h" in way(10.0).told
    assert "about 4 min" in way(0.06).told
    assert "as --fast asks" in way(1e-4, fast=True).told


def test_slow_code_is_checked_along_directions(tmp_path):
    text = (
        "parameters = {'w': [[1.0, 2.0, 3.0]]}\ndef f(p, *_): return (p['w'] ** 2).sum(), {'w': 2 * p['w']}\n"
    )
    (tmp_path / "net.py").write_text(text)
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\n")
    spec = load_spec(tmp_path / "net.yaml")
    assert check(spec).differences == "literal"
    report = check(spec, clock=ticking(1.0))
    assert (report.differences, report.passed) == ("directions", True)
    assert report.way.endswith("because checking every entry would take about 12 s.")


def test_compilation_and_one_slow_batch_of_three_do_not_count_as_slow():
    moves = Compiled()
    assert seconds_of(moves, "w", moves.clock) == pytest.approx(0.001)


class Compiled(Objective):
    """An objective whose first call of each size takes 9 s longer, and whose second batch 0.5 s longer."""

    def __init__(self):
        self.seconds, self.calls = 0.0, Counter()

    def clock(self):
        return Time(self.seconds, self.seconds)

    def move(self, which, to):
        self.calls[len(which)] += 1
        call = self.calls[len(which)]
        self.seconds += 0.001 * len(which) + 9.0 * (call == 1) + 0.5 * (len(which) > 1 and call == 2)
        return super().move(which, to)
