"""The pages on mistakes are true: each wrong program is called wrong and named, each right one agrees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from mistake_pages import (
    CHECK,
    DUMP,
    Kind,
    index,
    kinds_of_patterns,
    page,
    page_of_pattern,
    pages,
    rows_by_kind,
)
from mistake_pages.edit import Edit
from mistake_pages.examples import EXAMPLES
from mistake_pages.functions import CODE, COMMAND, SPEC
from mistake_pages.hides import SITUATIONS, visibility_of
from mistake_pages.programs import Example
from mistake_pages.shown import checked, differ, run, show
from shares import first

from gradcheck_cli.cli import main
from gradcheck_cli.diagnose.families import BIAS
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.nameable import NAMEABLE
from gradcheck_cli.diagnose.turned import ROWS_OF_OTHERS, _swapped
from gradcheck_cli.diagnose.wrong_functions import PATTERNS
from gradcheck_cli.formats import pages as addresses
from gradcheck_cli.formats.pages import slug
from gradcheck_cli.verdict import Verdict

KINDS: Mapping[str, Kind] = {name: Kind(rows) for name, rows in rows_by_kind(NAMEABLE).items()}


def spread() -> list[Wrong]:
    """Each code once: the first of every family, then of every kind, then the others."""
    rows = list({row.code: row for row in reversed(NAMEABLE) if row.code}.values())[::-1]
    kinds = list({row.kind: row for row in reversed(rows)}.values())[::-1]
    families = list({row.family: row for row in reversed(kinds)}.values())[::-1]
    return list(dict.fromkeys(row.code for row in (*families, *kinds, *rows)))


ROW_OF = {row.code: row for row in reversed(NAMEABLE) if row.code}


# --- the programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.words)
def test_the_right_program_agrees(example: Example):
    report = checked(example, example.program)
    assert report is not None
    assert report.verdict is Verdict.AGREES
    found = run(example, example.program, example.arrays)
    assert found is not None
    assert np.isclose(found["loss"], example.subject.said.loss, rtol=1e-12)


@pytest.mark.parametrize("code", first(16, spread()))
def test_the_wrong_code_is_called_wrong_and_named(code):
    row = ROW_OF[code]
    shown = show(row)
    assert shown is not None, "in no example the diagnosis names it"
    assert shown.report.verdict is Verdict.WRONG
    assert row.is_said_by([shown.cause.kind])
    assert _flush(code) in _flush(shown.edit.result)
    assert shown.edit.result != shown.example.program


def _flush(code: str) -> str:
    """Return the code without indentation, since an edit may stand inside a loop."""
    return "\n".join(line.strip() for line in code.splitlines())


def test_a_page_says_that_its_mistake_equals_another_one():
    """Without a penalty a transposed gradient is a transposed product."""
    shown = KINDS["transposed gradient"].own
    assert (shown.answer, shown.first.kind) == (1, "transposed product")
    assert "here it gives the same gradients as 'transposed product'." in page(KINDS["transposed gradient"])


def test_a_wrong_code_that_changes_nothing_is_not_shown():
    harmless = Wrong("bias averaged", BIAS, "", "", "", code="dL_db = delta.sum(axis=0) + 0")
    assert show(harmless) is None


def test_a_wrong_code_of_another_kind_is_not_shown():
    assert show(Wrong("bias averaged", BIAS, "", "", "", code="dL_db = delta[-1]")) is None


# --- the pages ---------------------------------------------------------------------------------------------


def test_every_kind_has_code():
    assert [name for name, kind in KINDS.items() if not any(row.code for row in kind.rows)] == []


def test_every_kind_has_a_file_name_of_its_own():
    names = [*KINDS, *{row.kind for row in PATTERNS}, "index"]
    assert len({slug(name) for name in names}) == len(names)


def test_what_is_called_by_its_rows_in_another_layout_has_a_page():
    of_weights = {name for name, kind in KINDS.items() if kind.rows[0].family.name not in ROWS_OF_OTHERS}
    assert {_swapped(name) for name in of_weights} == of_weights


@pytest.mark.slow
def test_the_index_links_to_every_page_and_every_link_has_a_target():
    texts = dict(pages())
    patterns = [kind.name for kind in kinds_of_patterns()]
    assert set(texts) == {f"{slug(name)}.md" for name in (*KINDS, *patterns)} | {"index.md"}
    assert set(re.findall(r"\]\(([^)#]+\.md)\)", texts["index.md"])) == set(texts) - {"index.md"}
    tied = {name for name, text in texts.items() if "This mistake is not the first answer" in text}
    assert tied == {"transposed-gradient.md"}
    headings = {slug(each) for each in re.findall(r"^## (.+)$", texts["index.md"], re.MULTILINE)}
    for text in texts.values():
        assert set(re.findall(r"\(index\.md#([^)]+)\)", text)) <= headings


IN_TORCH = {"detached branch", "missing conjugate"}


@pytest.mark.parametrize("name", first(2, sorted({row.kind for row in PATTERNS} - IN_TORCH)))
def test_a_page_on_a_pattern_is_what_its_function_leads_to(name, tmp_path, monkeypatch, capsys):
    (kind,) = (each for each in kinds_of_patterns() if each.name == name)
    text = page_of_pattern(kind)
    assert [form.cause.kind for form in kind.forms] == [name] * len(kind.forms)
    assert all(Edit(form.function.body, form.wrong.code).fits for form in kind.forms)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "88")
    Path(SPEC).write_text(_block(text, "yaml"), encoding="utf-8")
    Path(CODE).write_text(_block(text, "python hl_lines"), encoding="utf-8")
    assert _ended(COMMAND) == 1
    shown = f"$ {COMMAND}\n{capsys.readouterr().out.rstrip()}"
    assert _without_noise(shown) == _without_noise(_block(text, "console"))
    marked = _block(text, "python hl_lines").splitlines()[kind.own.lines[0] - 1 : kind.own.lines[1]]
    assert _flush("\n".join(marked)) == _flush(kind.own.edit.code)


def test_no_right_function_on_a_page_is_called_wrong():
    """The right gradient through a staircase is 0, which tests nothing."""
    forms = {form.function for kind in kinds_of_patterns() for form in kind.forms if "np" in form.function.w}
    verdicts = [form.report(form.body).verdict for form in forms]
    assert sorted(verdicts) == [Verdict.AGREES] * (len(forms) - 1) + [Verdict.UNRESOLVED]


def test_the_index_is_grouped_by_family():
    kinds = [KINDS["sign"], KINDS["bias averaged"], KINDS["bias not summed"]]
    lines = [line for line in index(kinds).splitlines() if line.startswith(("## ", "- "))]
    assert lines == [
        "## Bias reduction",
        f"- [Bias averaged](bias-averaged.md): {KINDS['bias averaged'].own.cause.sentence}",
        f"- [Bias not summed](bias-not-summed.md): {KINDS['bias not summed'].own.cause.sentence}",
        "## Scale or reduction",
        f"- [Sign](sign.md): {KINDS['sign'].own.cause.sentence}",
    ]


def test_a_page_has_the_formulas_the_code_and_what_hides_it():
    text = page(KINDS["bias averaged"])
    assert text.startswith("# Bias averaged\n")
    for part in (
        "- wrong: `∂L/∂b = mean δₙ`\n- right: `∂L/∂b = Σₙ δₙ`",
        "Wrong:\n\n```python\ndL_db = delta.mean(axis=0)\n```",
        "Right:\n\n```python\ndL_db = delta.sum(axis=0)\n```",
        "the wrong gradients equal the right ones if the batch is a single sample.",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name", first(3, ["sign", "batch norm: left out", "penalty forgotten", *list(KINDS)[::3]])
)
def test_a_page_is_what_its_program_and_its_spec_lead_to(name, tmp_path, monkeypatch, capsys):
    """As a reader would: the spec and the script off the page, and the commands."""
    assert KINDS[name].own.cause.kind == name
    text = page(KINDS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "88")
    Path("network.yaml").write_text(_block(text, "yaml"), encoding="utf-8")
    assert _ended(DUMP) == 0
    with np.errstate(all="ignore"):
        exec(_block(text, "python hl_lines"), {})
    capsys.readouterr()
    assert _ended(CHECK) == 1
    shown = f"$ {CHECK}\n{capsys.readouterr().out.rstrip()}"
    assert _without_noise(shown) == _without_noise(_block(text, "console"))


def _ended(command: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(command.split()[1:])
    return left.value.code


def _without_noise(text: str) -> str:
    """A derivative that is 0 comes out as rounding, which depends on what else was differenced.

    So does the worst entry of a tensor that is 0 on both sides.
    """
    text = re.sub(r"\[[\d, ]+\](\s+agrees, all 0)", r"[…]\1", text)
    return re.sub(r"-?\d\.\d+e-1[4-9]", "…", text)


def _block(text: str, language: str) -> str:
    found = re.search(rf"^```{language}[^\n]*\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("name", first(3, ["penalty that the spec lacks", "another network", *KINDS]))
def test_the_mistake_is_in_the_lines_that_the_page_marks(name):
    own, text = KINDS[name].own, page(KINDS[name])
    found = re.search(r'hl_lines="(\d+)-(\d+)"', text)
    assert found
    start, end = int(found[1]), int(found[2])
    marked = "\n".join(_block(text, "python hl_lines").splitlines()[start - 1 : end])
    assert _flush(marked) == _flush(own.edit.code)


def test_the_command_points_to_a_page_that_there_is(configs, monkeypatch, capsys):
    monkeypatch.setattr(addresses, "DOCS", "https://docs.test")
    assert _ended(f"gradcheck check {configs / 'wrong_gradient.yaml'}") == 1
    (name,) = re.findall(r"see https://docs\.test/mistakes/([^/]+)/$", capsys.readouterr().out, re.MULTILINE)
    assert name in {slug(kind) for kind in KINDS}


# --- what hides a mistake ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("bias averaged", {"the batch is a single sample"}),
        ("target forgotten", {"all targets are 0"}),
        ("penalty on the biases too", {"all biases are 0"}),
        ("missing 1/C", {"the network has one output"}),
        ("batch norm: gamma forgotten", {"the batch is a single sample", "gamma is 1"}),
        ("sign", set()),
    ],
)
def test_what_hides_a_mistake(name, hidden):
    seen = visibility_of(KINDS[name].own)
    assert set(seen.hidden) == hidden
    assert set(seen.hidden) | set(seen.visible) <= {each.words for each in SITUATIONS}
    assert not set(seen.hidden) & set(seen.visible)


def test_what_is_right_in_another_network_is_named_with_it():
    """Without an activation there is no derivative to forget."""
    networks = visibility_of(KINDS["activation derivative missing"].own).networks
    of_example = {each.words: getattr(each, "outer", "") for each in EXAMPLES}
    assert {of_example[words] for words in networks} == {"identity"}
    assert visibility_of(KINDS["sign"].own).networks == ()


def test_gradients_differ_if_one_is_not_finite():
    example, names = EXAMPLES[0], EXAMPLES[0].names.values()
    ones = {f"dL_d{name}": np.ones(2) for name in names}
    other = {**ones, f"dL_d{next(iter(names))}": np.array([1.0, np.nan])}
    assert differ(example, other, ones)
    assert not differ(example, ones, ones)


# --- an edit -----------------------------------------------------------------------------------------------

RIGHT = "a = x\nb = a + 1\nc = b"


@pytest.mark.parametrize(
    ("code", "result", "lines"),
    [
        ("b = a", "a = x\nb = a\nc = b\n", (2, 2)),
        ("b = b * 2", "a = x\nb = a + 1\nb = b * 2\nc = b\n", (3, 3)),
        ("b *= 2", "a = x\nb = a + 1\nb *= 2\nc = b\n", (3, 3)),
        ("b[0] = 2", "a = x\nb = a + 1\nb[0] = 2\nc = b\n", (3, 3)),
        ("d = a\nb = d", "a = x\nd = a\nb = d\nc = b\n", (2, 3)),
        ("b, c = c, b", "a = x\nb = a + 1\nc = b\nb, c = c, b\n", (4, 4)),
    ],
)
def test_wrong_statements_replace_or_follow_the_right_one(code, result, lines):
    edit = Edit(RIGHT, code)
    assert edit.fits
    assert (edit.result, edit.lines) == (result, lines)


def test_an_edit_needs_a_statement_to_replace():
    assert not Edit(RIGHT, "e = a").fits
