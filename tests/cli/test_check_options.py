"""What the options of `check` change, and which of them is blamed."""

from __future__ import annotations

import pytest
from command_specs import (
    GOOD,
    WRONG,
    checked,
    save,
)

import gradcheck_cli


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ([], ["output.weight", "output.bias", "hidden1.weight", "hidden1.bias"]),
        (["output.*"], ["output.weight", "output.bias"]),
        (["hidden1.bias", "output.weight"], ["output.weight", "hidden1.bias"]),
        (["*.bias", "output.*"], ["output.weight", "output.bias", "hidden1.bias"]),
    ],
    ids=" ".join,
)
def test_only_limits_the_check_and_may_be_repeated(only, names, gradcheck):
    options = [word for pattern in only for word in ("--only", pattern)]
    assert checked(gradcheck("check", "--format", "json", *options, "good.yaml").document) == names


def test_only_replaces_the_specs_own_choice(folder, gradcheck):
    (folder / "one.yaml").write_text(GOOD + "check: {parameters: hidden1.bias}\n")
    assert checked(gradcheck("check", "--format", "json", "one.yaml").document) == ["hidden1.bias"]
    done = gradcheck("check", "--format", "json", "--only", "output.bias", "one.yaml")
    assert checked(done.document) == ["output.bias"]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--only", "outptu.bias", "'outptu.bias' matches no parameter"),
        ("--gradients", "no-such.npz", "no-such.npz"),
    ],
)
def test_the_option_is_blamed_and_not_the_line_it_overrides(option, value, says, folder, gradcheck):
    (folder / "own.yaml").write_text(WRONG + "check: {parameters: output.*}\n")
    done = gradcheck("check", option, value, "own.yaml")
    assert done.code == 2
    assert done.err.startswith(f"error: own.yaml: {option}: ")
    assert says in done.err
    assert "|" not in done.err  # no line of the spec is quoted


def test_errors_in_the_spec_are_shown_at_their_place(folder, gradcheck):
    (folder / "own.yaml").write_text(GOOD + "check: {parameters: outptu.*}\n")
    done = gradcheck("check", "own.yaml")
    assert done.err.startswith("own.yaml:9:21: error: 'outptu.*' matches no parameter\n")
    assert "    9 |   check: {parameters: outptu.*}\n" in done.err


def test_options_of_the_differences_reach_the_report(gradcheck):
    options = ["--scheme", "central", "--differences", "literal", "--rtol", "1e-4"]
    (spec,) = gradcheck("check", "--format", "json", *options, "good.yaml").document["specs"]
    assert (spec["scheme"], spec["differences"], spec["witness"]) == ("central", "literal", None)
    assert {tensor["rtol"] for tensor in spec["tensors"]} == {1e-4}
    (plain,) = gradcheck("check", "--format", "json", "good.yaml").document["specs"]
    assert (plain["scheme"], plain["differences"]) == ("adaptive", "units")
    assert {tensor["rtol"] for tensor in plain["tensors"]} == {1e-6}


def test_a_larger_step_has_a_larger_error(gradcheck):
    errors = []
    for step in ("1e-4", "1e-2"):
        options = ["--scheme", "central", "--step", step, "--only", "output.bias", "--format", "json"]
        (spec,) = gradcheck("check", *options, "good.yaml").document["specs"]
        errors.append(spec["tensors"][0]["max_relative_error"])
    assert errors[1] > 100 * errors[0]


def test_rtol_decides_between_right_and_wrong(folder, right, gradcheck):
    save(folder / "off.npz", right, **{"output.bias": (1 + 1e-4) * right["output.bias"]})
    for command in ("check", "explain"):
        assert gradcheck(command, "--gradients", "off.npz", "good.yaml").code == 1
        assert gradcheck(command, "--gradients", "off.npz", "--rtol", "1e-3", "good.yaml").code == 0


def test_another_seed_draws_other_witnesses(gradcheck):
    def largest(*options: str) -> float:
        (spec,) = gradcheck("check", "--format", "json", *options, "good.yaml").document["specs"]
        return spec["witness"]["largest"]

    assert largest("--seed", "1") == largest("--seed", "1")
    assert len({largest("--seed", str(seed)) for seed in range(4)}) > 1


def test_gradients_replace_the_specs_own_and_are_relative_to_the_caller(folder, right, gradcheck):
    (folder / "specs").mkdir()
    (folder / "specs" / "wrong.yaml").write_text(WRONG)
    save(folder / "right.npz", right)
    done = gradcheck("check", "--format", "json", "--gradients", "right.npz", "specs/wrong.yaml")
    assert done.code == 0
    assert done.document["specs"][0]["gradients"] == "right.npz"


def test_show_lists_as_many_entries(gradcheck):
    assert "The worst" not in gradcheck("check", "wrong.yaml").out
    out = gradcheck("check", "--show", "3", "wrong.yaml").out
    *_, heading, first, second, third = out.splitlines()
    assert heading.split()[:2] == ["tensor", "entry"]
    assert [line.split()[-1] for line in (first, second, third)] == ["wrong", "wrong", "agrees"]


def test_more_entries_than_exist_can_be_requested(gradcheck):
    (spec,) = gradcheck("check", "--show", "1000", "--format", "json", "good.yaml").document["specs"]
    assert len(spec["worst"]) == spec["entries"] == 2 * 4 + 2 + 4 * 3 + 4


def test_quiet_is_a_line_per_spec_and_verbose_says_more(gradcheck):
    quiet = gradcheck("check", "-q", "good.yaml", "bad.yaml", "wrong.yaml").out.splitlines()
    assert [line.split(":")[0] for line in quiet] == ["✓ good.yaml", "✗ bad.yaml", "✗ wrong.yaml"]
    normal, verbose = (gradcheck("check", *flags, "good.yaml").out for flags in ([], ["-v"]))
    said = normal.splitlines()
    assert [line for line in verbose.splitlines() if line in said][: len(said)] == said
    assert "witness: " in verbose
    assert "witness: " not in normal


def test_heatmap_draws_wrong_tensors_below_the_table_and_in_reports(folder, gradcheck):
    plain = gradcheck("check", "wrong.yaml").out
    drawn = gradcheck("check", "wrong.yaml", "--heatmap", "--report", "table=out").out
    assert drawn == (folder / "out").read_text("utf-8")
    assert "  output.bias, 2\n" in drawn.removeprefix(plain)
    assert "|████| ✗\n" in drawn.removeprefix(plain)


def test_heatmap_needs_a_table(gradcheck):
    done = gradcheck("check", "good.yaml", "--heatmap", "--format", "json")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --heatmap is drawn below the table, but json has no table\n"


@pytest.mark.parametrize(
    ("variables", "many"),
    [
        ({}, False),
        ({"TERM": "xterm-256color"}, True),
        ({"COLORTERM": "truecolor"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ],
    ids=str,
)
def test_a_heatmap_has_as_many_colours_as_the_terminal(variables, many, gradcheck, monkeypatch):
    monkeypatch.delenv("COLORTERM", raising=False)
    for name, value in {"FORCE_COLOR": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert ("48;5;" in gradcheck("check", "wrong.yaml", "--heatmap").out) == many


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["check", "-h"], ["explain", "-h"]], ids=" ".join)
def test_help_is_everywhere_and_lists_the_exit_codes(arguments, gradcheck):
    done = gradcheck(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "\n    3    nothing wrong was found, but too little could be decided\n" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_the_packages_own(option, gradcheck):
    assert gradcheck(option).out == f"gradcheck, version {gradcheck_cli.__version__}\n"
