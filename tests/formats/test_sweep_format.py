"""The plot of a sweep on the terminal, and its JSON document for scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from build import spec_of
from rich.cells import cell_len

from gradcheck_cli import Verdict, load_spec
from gradcheck_cli.formats import RENDERERS, View, render
from gradcheck_cli.formats.sweep.plot import LABEL, Axes, Plot
from gradcheck_cli.formats.sweep.table import EXTRAPOLATED, FLAT, KINK, glyphs_of
from gradcheck_cli.numerical.schemes import plain_schemes
from gradcheck_cli.sweep.curve import Branch
from gradcheck_cli.sweep.sweep import Sweep, sweep

CONFIGS = ("digits_mlp.yaml", "wrong_gradient.yaml", "relu_huber.yaml", "code/book_trap.yaml")


@pytest.fixture(scope="module")
def swept(configs):
    known: dict[str, Sweep] = {}

    def of(name: str) -> Sweep:
        if name not in known:
            known[name] = sweep(load_spec(configs / name))
        return known[name]

    return of


def lines_of(of: Sweep, **view) -> list[str]:
    return render("table", of, View(**view), "net.yaml").splitlines()


def plot_of(lines: list[str]) -> list[str]:
    """Return the part of the plot to the right of the error axis."""
    edges = ("┤", "│", "+", "|")
    return [line[LABEL + 1 :] for line in lines if line[LABEL : LABEL + 1] in edges and "---" not in line]


def glyphs_in(lines: Iterable[str]) -> set[str]:
    return set("".join(lines)) - {" "}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_longer_than_the_terminal(config, width, swept):
    assert max(map(cell_len, lines_of(swept(config), width=width))) <= width


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_in_ascii_the_plot_is_the_same_glyph_for_glyph(config, width, swept):
    ascii = lines_of(swept(config), width=width, ascii=True)
    assert all(line.isascii() for line in ascii)
    theirs, ours = plot_of(ascii), plot_of(lines_of(swept(config), width=width))
    assert [len(line) for line in theirs] == [len(line) for line in ours]
    assert len(glyphs_in(theirs)) == len(glyphs_in(ours))


def test_without_color_there_is_no_escape_and_with_it_nothing_else_changes(swept):
    plain = lines_of(swept("digits_mlp.yaml"), width=100)
    colored = lines_of(swept("digits_mlp.yaml"), width=100, color=True)
    assert not any("\x1b" in line for line in plain)
    assert any("\x1b[" in line for line in colored)
    assert [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in colored] == plain


def test_every_scheme_has_marks_of_its_own():
    marks = [glyph for name in plain_schemes() for glyph in glyphs_of(name)]
    assert len({*marks, EXTRAPOLATED, KINK, FLAT}) == len(marks) + 3
    assert all(cell_len(glyph) == 1 for glyph in [*marks, EXTRAPOLATED, KINK, FLAT])


def test_truncation_noise_and_the_adaptive_scheme_are_in_the_plot(swept):
    shown = glyphs_in(plot_of(lines_of(swept("digits_mlp.yaml"))))
    assert shown >= {*(glyph for name in plain_schemes() for glyph in glyphs_of(name)), EXTRAPOLATED}
    assert not {KINK, FLAT} & shown


def test_the_best_step_of_every_scheme_is_below_the_axis(swept):
    of = swept("digits_mlp.yaml")
    (best,) = [line for line in lines_of(of) if line.split()[:1] == ["best"]]
    axes = Axes(octaves=50, bottom=-16, top=0, columns_per_octave=1, rows_per_decade=1.0)
    for curve in of.curves[2:]:
        assert best[LABEL + 1 + axes.column(curve.best.step)] == glyphs_of(curve.scheme)[0]


def test_steps_over_kinks_are_marked_on_the_curves_and_below(swept):
    of = swept("relu_huber.yaml")
    lines = lines_of(of)
    kinked = {point.step for curve in of.curves for point in curve.on(Branch.KINK)}
    (kinks,) = [line for line in lines if line.split()[:1] == ["kinks"]]
    assert kinks.count(KINK) == len(kinked)
    assert KINK in glyphs_in(plot_of(lines))
    assert any("the step crosses a kink" in line for line in lines)


def test_a_wrong_gradient_is_a_flat_line_and_said_to_be(swept):
    lines = lines_of(swept("wrong_gradient.yaml"))
    (flat,) = [line for line in plot_of(lines) if FLAT in line]
    assert flat.count(FLAT) > 40
    assert "order 0: does not fall" in "\n".join(lines)
    assert lines[-1].startswith("✗ wrong: a relative error of 6.0e-01 remains at every step")
    assert "51 of 510 entries" in lines[-1]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (spec_of((4, "tanh"), (3, "sigmoid")), "order 2, as expected"),
        (spec_of((4, "tanh"), (3, "sigmoid"), dtype="float32"), "as expected, down to "),
        (spec_of((3, "identity"), loss="hinge"), "undecided: only rounding noise"),
        (
            spec_of((3, "identity"), loss="hinge"),
            "? unresolved: `gradcheck check` finds no mistake, but no curve",
        ),
        (spec_of((2, "relu"), (2, "relu"), parameters={"init": "zeros"}), "? unresolved: gradcheck check"),
    ],
)
def test_a_verdict_says_what_it_rests_on(spec, said):
    assert said in "\n".join(lines_of(sweep(spec)))


def test_findings_that_the_curves_do_not_show_are_noted(swept):
    wrong, right = swept("wrong_gradient.yaml"), swept("digits_mlp.yaml")
    unseen = Sweep(right.curves, right.adaptive, wrong.swept, wrong.report)
    assert "51 of 510 entries wrong. The curves do not show the error" in lines_of(unseen)[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"order": 1.2, "flat": None}, "undecided: order 1.2, not 2"),
        ({"order": 3.1, "flat": None}, "order 3.1, better than 2"),
        ({"order": 2.0, "flat": 0.1}, "stays at 1.0e-01"),
        ({"order": None, "flat": 0.1}, "? unresolved: an error remains"),
    ],
)
def test_every_result_of_a_curve_has_its_words(changes, said, swept):
    of = swept("digits_mlp.yaml")
    curve = replace(next(curve for curve in of.curves if curve.scheme == "central"), **changes)
    assert said in "\n".join(lines_of(replace(of, curves=(curve,))))


def test_the_heading_says_what_is_swept(swept):
    assert "all 3,760 entries" in lines_of(swept("digits_mlp.yaml"))[2]
    assert "50 of 610 entries, drawn at random" in lines_of(swept("code/book_trap.yaml"))[2]


def test_errors_larger_than_the_gradient_have_room():
    spec = spec_of(
        (2, "tanh"),
        inputs=3,
        parameters={"init": "zeros"},
        data={"x": [[1, 2, 3], [0.5, 1, -1]], "y": [[0, 1e-5], [1e-6, 0]]},
    )
    lines = lines_of(sweep(spec))
    assert any(line.split()[:1] == ["10⁴"] for line in lines)
    assert any(line.split()[:1] == ["10⁻¹⁶"] for line in lines)


# --- the plot ----------------------------------------------------------------------------------------------


AXES = Axes(octaves=10, bottom=-4, top=0, columns_per_octave=2, rows_per_decade=1.0)


def test_powers_stand_where_they_belong():
    plot = Plot(AXES)
    plot.put(1.0, 1.0, "a")
    plot.put(2.0**-10, 1e-4, "b")
    plot.put(2.0**-5, 1e-2, "c")
    lines = [line.plain[LABEL + 1 :] for line in plot.lines("step")]
    assert lines[0] == " " * 20 + "a"
    assert lines[2] == " " * 10 + "c" + " " * 10
    assert lines[4] == "b" + " " * 20


def test_errors_beyond_the_axis_are_drawn_at_its_end():
    plot = Plot(AXES)
    for y, glyph in ((1e9, "a"), (0.0, "b"), (1e-9, "c")):
        plot.put({"a": 1.0, "b": 0.5, "c": 0.25}[glyph], y, glyph)
    lines = [line.plain[LABEL + 1 :] for line in plot.lines("step")]
    assert "a" in lines[0]
    assert {"b", "c"} <= set(lines[4])


def test_beyond_the_smallest_step_nothing_is_shown():
    plot = Plot(AXES)
    plot.put(2.0**-11, 1.0, "a")
    assert "a" not in "".join(line.plain for line in plot.lines(""))


def test_overlapping_curves_alternate():
    plot = Plot(AXES)
    for glyph in "ab":
        for k in range(11):
            plot.put(2.0**-k, 1.0, glyph)
    assert next(iter(plot.lines("step"))).plain[LABEL + 1 :].replace(" ", "") == "ababababab" + "a"


# --- JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS)
def test_json_has_every_point(config, swept):
    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is no JSON")

    of = swept(config)
    document = json.loads(render("json", of, View(), "net.yaml"), parse_constant=refuse)
    assert (document["version"], document["spec"]) == (1, "net.yaml")
    assert document["exit_code"] == of.exit_code
    assert Verdict(document["verdict"]) is of.verdict
    assert [scheme["scheme"] for scheme in document["schemes"]] == [curve.scheme for curve in of.curves]
    for scheme, curve in zip(document["schemes"], of.curves, strict=True):
        assert [point["step"] for point in scheme["points"]] == [point.step for point in curve.points]
        assert [point["error"] for point in scheme["points"]] == [point.error for point in curve.points]
        assert {point["branch"] for point in scheme["points"]} <= {*Branch, None}
        assert scheme["order"] == curve.order
    assert document["adaptive"]["error"] == of.adaptive.error


def test_every_format_of_a_sweep_renders(swept):
    for format in RENDERERS["Sweep"]:
        assert render(format, swept("digits_mlp.yaml"), View(), "net.yaml").endswith("\n")
