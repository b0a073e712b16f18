"""Planted mistakes as a table: one row per kind, with the number caught and the number correctly named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from gradcheck_cli.formats.text import INDENT, STYLES, Cell, Column, Page
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.numbers import count, listed
from gradcheck_cli.formats.words.verdicts import MARKS
from gradcheck_cli.mutate.mutate import NO_MISTAKE, UNCHECKED, Mutant, Mutation, by_kind
from gradcheck_cli.verdict import Verdict


def render(mutation: Mutation, view: View, spec: str) -> str:
    """Return the table, the mistakes that these data cannot show, and the verdict."""
    page = Page(view)
    page.line(spec, "bold")
    page.line(f"{mutation.network}; {mutation.loss_name}", indent=INDENT)
    planted = _planted(mutation)
    page.line(
        f"{planted} of {count(len(by_kind(mutation.mutants)), 'kind')}, planted in gradcheck's own backprop",
        indent=INDENT,
    )
    if _is_a_share(mutation) and not mutation.interrupted:
        page.line(f"--sample {mutation.applicable} plants all of them", indent=INDENT)
    page.line()
    kinds = by_kind(mutation.mutants)
    shown = kinds if view.level > 0 else {kind: of for kind, of in kinds.items() if not _perfect(of)}
    if shown:
        page.table(_COLUMNS, [_row(kind, mutants) for kind, mutants in shown.items()])
        page.line()
    if folded := len(kinds) - len(shown):
        page.line(f"{_other(folded, bool(shown))} caught and named in every visible case; -v lists them.")
        page.line()
    right = [mutant for mutant in mutation.mutants if mutant.shown_by == NO_MISTAKE]
    hidden = [mutant for mutant in mutation.mutants if not mutant.visible and mutant not in right]
    if hidden:
        page.line(
            f"{count(len(hidden), 'mistake')} would make no difference on these data. To make such mistakes "
            "visible:"
        )
        for line in _shown_by(hidden, view.level > 0):
            page.item(line)
        page.line()
    if right:
        for line in _no_mistakes(right):
            page.line(line)
        page.line()
    for mutant in mutation.passed:
        page.line(f"{MARKS[Verdict.WRONG]} passed: {mutant.kind}{_where(mutant)}.", STYLES[Verdict.WRONG])
    verdict = _verdict(mutation)
    page.line(f"{MARKS[verdict]} {_sentence(mutation)}", STYLES[verdict])
    return page.text


def _planted(mutation: Mutation) -> str:
    """Return the number of planted mistakes in words, such as ``167 mistakes``."""
    all_of_them = count(max(mutation.applicable, len(mutation.mutants)), "mistake")
    return f"{len(mutation.mutants):,} of {all_of_them}," if _is_a_share(mutation) else all_of_them


def _is_a_share(mutation: Mutation) -> bool:
    return len(mutation.mutants) < mutation.applicable


def _perfect(mutants: Sequence[Mutant]) -> bool:
    """Return whether every visible mistake was caught and the first answer named it correctly."""
    return all(mutant.caught and mutant.named for mutant in mutants if mutant.visible)


def _other(kinds: int, some_are_shown: bool) -> str:
    """Return the beginning of the sentence about the kinds without a row: ``The 33 other kinds are``."""
    are = "is" if kinds == 1 else "are"
    return f"The {kinds:,} {'other ' * some_are_shown}{'kind' if kinds == 1 else 'kinds'} {are}"


_COLUMNS = (
    Column("mistake", folds=True),
    Column("planted", right=True),
    Column("visible", rank=2, right=True),
    Column("caught", right=True),
    Column("named", right=True),
    Column("instead, or as well", rank=1, folds=True),
)


def _row(kind: str, mutants: Sequence[Mutant]) -> list[Cell]:
    visible = sum(mutant.visible for mutant in mutants)
    caught = sum(mutant.caught for mutant in mutants)
    named = sum(mutant.named or mutant.tied for mutant in mutants if mutant.caught)
    return [
        kind,
        f"{len(mutants):,}",
        f"{visible:,}" if visible else "none",
        _share(caught, visible),
        _share(named, caught),
        _instead(mutants),
    ]


def _share(some: int, of: int) -> Cell:
    if not of:
        return "–"
    return (f"{some:,}", STYLES[Verdict.AGREES if some == of else Verdict.UNRESOLVED])


_MOST = 2


def _instead(mutants: Sequence[Mutant]) -> str:
    """List the first answers that do not name the planted mistake."""
    said = Counter(
        " + ".join(mutant.said) or "unknown" for mutant in mutants if mutant.caught and not mutant.named
    )
    return "; ".join(what for what, _ in said.most_common(_MOST)) + ("; …" if len(said) > _MOST else "")


def _shown_by(hidden: Sequence[Mutant], in_full: bool) -> Iterator[str]:
    """Yield the data that would reveal hidden mistakes, with the mistakes' kinds or only their number."""
    reasons: dict[str, list[str]] = {}
    for mutant in hidden:
        reasons.setdefault(mutant.shown_by, []).append(mutant.kind)
    for reason, kinds in reasons.items():
        of_kinds = listed(list(dict.fromkeys(kinds)))
        yield f"{reason}: {of_kinds if in_full or reason not in UNCHECKED else count(len(kinds), 'mistake')}"


def _no_mistakes(right: Sequence[Mutant]) -> Iterator[str]:
    """Yield a sentence about the layers in which planted formulas are right."""
    kinds: dict[str, list[str]] = {}
    for mutant in right:
        kinds.setdefault(mutant.where, []).append(mutant.kind)
    layers: dict[tuple[str, ...], list[str]] = {}
    for layer, found in kinds.items():
        layers.setdefault(tuple(dict.fromkeys(found)), []).append(layer)
    for formulas, names in layers.items():
        where = f"layer{'s' if len(names) > 1 else ''} {listed(names)}"
        are = "these formulas are right" if len(formulas) > 1 else "this formula is right"
        yield f"With the activation of {where}, {are}: {listed(formulas)}."


def _where(mutant: Mutant) -> str:
    return f" in layer {mutant.where}" if mutant.where else ""


def _verdict(mutation: Mutation) -> Verdict:
    return {0: Verdict.AGREES, 1: Verdict.WRONG}.get(int(mutation.exit_code), Verdict.UNRESOLVED)


def _sentence(mutation: Mutation) -> str:
    visible = len(mutation.visible)
    if not visible:
        return "unresolved: no planted mistake makes a difference on these data, so the check proves nothing."
    caught = (
        f"caught {mutation.caught:,} of {count(visible, 'visible mistake')} ({mutation.caught / visible:.1%})"
    )
    share = mutation.named / mutation.caught if mutation.caught else 0.0
    return f"{caught}, and named {mutation.named:,} of them ({share:.1%})."
