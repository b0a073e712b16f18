"""The pages on mistakes: one for each kind that the diagnosis can name, and an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.nameable import NAMEABLE
from gradcheck_cli.formats import render
from gradcheck_cli.formats.pages import slug
from gradcheck_cli.formats.view import View
from gradcheck_cli.report import Outcome, Run
from mistake_pages.edit import Edit
from mistake_pages.functions import CODE, COMMAND, SPEC, Pattern
from mistake_pages.functions import shown as shown_patterns
from mistake_pages.hides import visibility_of
from mistake_pages.program import ARRAYS, GRADIENTS
from mistake_pages.shown import Shown, show

CHECK, DUMP = "gradcheck check network.yaml", f"gradcheck dump network.yaml -o {ARRAYS}"

WIDTH = 88
"""The columns of the tool's output on a page."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield the file name and the Markdown of every page, the index last."""
    kinds = [Kind(rows) for rows in rows_by_kind(NAMEABLE).values()]
    patterns = kinds_of_patterns()
    for kind in kinds:
        yield f"{slug(kind.name)}.md", page(kind)
    for pattern in patterns:
        yield f"{slug(pattern.name)}.md", page_of_pattern(pattern)
    yield "index.md", index([*kinds, *patterns])


def rows_by_kind(rows: Sequence[Wrong]) -> Mapping[str, list[Wrong]]:
    """Return the rows of each kind, in the order of the table."""
    kinds: dict[str, list[Wrong]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    return kinds


@dataclass(frozen=True)
class Kind:
    """A kind of mistake with all its rows."""

    rows: Sequence[Wrong]

    @property
    def name(self) -> str:
        return self.rows[0].kind

    @property
    def title(self) -> str:
        return _capital(self.name)

    @property
    def family(self) -> str:
        return _capital(self.rows[0].family.name)

    @cached_property
    def forms(self) -> Sequence[Shown]:
        """The rows with code, each in an example that shows it; the page is about the first row."""
        codes = {row.code: row for row in reversed(self.rows) if row.code}
        return [_shown(row) for row in reversed(codes.values())]

    @property
    def own(self) -> Shown:
        return self.forms[0]

    @property
    def other_formulas(self) -> Sequence[str]:
        """The wrong formulas of the rows without code, except rows that differ only by a number."""
        told = {"", *(shown.wrong.wrong for shown in self.forms)}
        alike = {row.wrong for row in self.rows if isinstance(row, Mistake) and row.alike}
        return list(dict.fromkeys(_plain(row.wrong) for row in self.rows if row.wrong not in told | alike))


def _shown(row: Wrong) -> Shown:
    shown = show(row)
    if shown is None:
        raise LookupError(f"in no example the check names '{row.kind}' for: {row.code}")
    return shown


# --- a page ------------------------------------------------------------------------------------------------


def page(kind: Kind) -> str:
    """Return one kind's page as Markdown."""
    blocks = [
        f"# {kind.title}",
        f"*[{kind.family}](index.md#{slug(kind.family)})*",
        kind.own.cause.sentence,
        *_formulas(kind.own),
        *_code(kind.own),
        *_output(kind.own),
        *_visibility(kind.own),
        *_forms(kind),
        *_program(kind.own),
    ]
    return "\n\n".join(blocks) + "\n"


def _formulas(shown: Shown | Pattern) -> Iterator[str]:
    """Yield the wrong and the right formula, and nothing if the mistake has none."""
    wrong, right = shown.cause.wrong, shown.cause.right
    items = [f"- {what}: `{formula}`" for what, formula in (("wrong", wrong), ("right", right)) if formula]
    if items:
        yield "## The formulas"
        yield "\n".join(items)


def _code(shown: Shown) -> Iterator[str]:
    yield "## In numpy"
    yield shown.example.notation
    yield "Wrong:"
    yield _fenced(shown.edit.wrong, "python")
    yield "Right:"
    yield _fenced(shown.edit.right, "python")


def _output(shown: Shown) -> Iterator[str]:
    yield "## What it looks like"
    yield (
        f"The example is {shown.example.words}. [A script](#try-it) with the mistake computes its gradients:"
    )
    yield _fenced(f"$ {CHECK}\n{_printed(shown).rstrip()}", "console")
    if shown.answer:
        yield (
            "This mistake is not the first answer, because here it gives the same gradients as "
            f"'{shown.first.kind}'."
        )


@cache
def _printed(shown: Shown) -> str:
    return render("table", Run((Outcome("network.yaml", shown.report),)), View(width=WIDTH))


def _visibility(shown: Shown) -> Iterator[str]:
    """Yield sentences on what hides the mistake, and on what does not."""
    seen = visibility_of(shown)
    yield "## What hides it"
    if len(seen.hidden) == 1:
        yield f"In this example the wrong gradients equal the right ones if {seen.hidden[0]}."
    if len(seen.hidden) > 1:
        yield "In this example the wrong gradients equal the right ones if one of these is true:"
        yield "\n".join(f"- {words}" for words in seen.hidden)
    if seen.networks:
        yield f"In {_some(seen.networks)}, the same code is right."
    if not (seen.hidden or seen.networks):
        yield "Nothing that we tried hides it."
    yield f"The mistake shows even if {_listed(seen.visible, 'or')}."


_MOST_NETWORKS = 3


def _some(networks: Sequence[str]) -> str:
    """Return a list of the first few networks, which ends with the number of the others."""
    more = len(networks) - _MOST_NETWORKS
    return _listed([*networks[:_MOST_NETWORKS], *([f"{more} other examples"] if more > 0 else [])], "and")


def _forms(kind: Kind) -> Iterator[str]:
    """Yield the other mistakes of this kind, with and without code."""
    others, formulas = kind.forms[1:], kind.other_formulas
    if others or formulas:
        yield "## Other forms"
        yield "The diagnosis gives the same name to these mistakes:"
    for other in others:
        yield from _form(other)
    if formulas:
        yield "It also gives this name to mistakes with these formulas:" if others else "Their formulas are:"
        yield _fenced("\n".join(formulas), "text")


def _form(shown: Shown) -> Iterator[str]:
    yield shown.cause.sentence
    yield _fenced(shown.edit.code, "python")


def _program(shown: Shown) -> Iterator[str]:
    script = Edit(shown.example.script, shown.edit.code)
    yield "## Try it"
    yield "Save this spec as `network.yaml`:"
    yield _fenced(_spec(shown), "yaml")
    yield "Write its data and parameters to a file:"
    yield _fenced(f"$ {DUMP}", "console")
    yield f"Run this script, and then `{CHECK}`. The mistake is in {_lines(script.lines)}."
    yield _fenced(script.result.rstrip(), f'python hl_lines="{"-".join(map(str, script.lines))}"')


def _lines(lines: tuple[int, int]) -> str:
    first, last = lines
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _spec(shown: Shown) -> str:
    """Return the spec as YAML."""
    return "\n".join(_yaml({**shown.example.given, "gradients": {"file": GRADIENTS}}))


def _yaml(sections: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Yield lines of YAML: sections, keys and layers in block style, and deeper levels in flow style."""
    for section, keys in sections.items():
        yield f"{section}:"
        for key, value in keys.items():
            if key == "layers" and isinstance(value, list):
                yield "  layers:"
                yield from (f"    - {_flow(layer)}" for layer in value)
            else:
                yield f"  {key}: {_flow(value)}"


def _flow(value: object) -> str:
    """Return a value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


# --- a page about a pattern of functions --------------------------------------------------------------------


@dataclass(frozen=True)
class KindOfPattern:
    """A kind of pattern with all its forms."""

    forms: Sequence[Pattern]

    @property
    def own(self) -> Pattern:
        return self.forms[0]

    @property
    def name(self) -> str:
        return self.own.wrong.kind

    @property
    def title(self) -> str:
        return _capital(self.name)

    @property
    def family(self) -> str:
        return _capital(self.own.wrong.family.name)


def kinds_of_patterns() -> Sequence[KindOfPattern]:
    """Return the kinds of patterns in functions, in the order of the table."""
    kinds: dict[str, list[Pattern]] = {}
    for pattern in shown_patterns():
        kinds.setdefault(pattern.wrong.kind, []).append(pattern)
    return [KindOfPattern(forms) for forms in kinds.values()]


def page_of_pattern(kind: KindOfPattern) -> str:
    """Return the page of one kind of pattern as Markdown."""
    own = kind.own
    blocks = [
        f"# {kind.title}",
        f"*[{kind.family}](index.md#{slug(kind.family)})*",
        own.cause.sentence,
        *_formulas(own),
        "## In code",
        f"The example is {own.function.words}.",
        "Wrong:",
        _fenced(own.edit.wrong, "python"),
        "Right:",
        _fenced(own.edit.right, "python"),
        "## What it looks like",
        _fenced(own.output, "console"),
        *_forms_of_pattern(kind),
        "## Try it",
        f"Save this spec as `{SPEC}`:",
        _fenced(own.function.spec, "yaml"),
        f"Save this code as `{CODE}`, and then run `{COMMAND}`. The mistake is in {_lines(own.lines)}.",
        _fenced(own.file.rstrip(), f'python hl_lines="{"-".join(map(str, own.lines))}"'),
    ]
    return "\n\n".join(blocks) + "\n"


def _forms_of_pattern(kind: KindOfPattern) -> Iterator[str]:
    for other in kind.forms[1:]:
        yield "## Another form"
        yield f"The diagnosis gives the same name to this mistake. {other.cause.sentence}"
        yield f"In {other.function.words}:"
        yield _fenced(other.edit.wrong, "python")


# --- the index ---------------------------------------------------------------------------------------------


_INTRODUCTION = """\
# Mistakes that gradcheck can name

If a gradient is wrong, `gradcheck check` looks for the mistake that leads to it. It knows {count} kinds of
mistakes. The page of each kind shows the wrong and the right formula, both of them as numpy code, and the
output of gradcheck. It also says which data or networks hide the mistake.

The pages are generated from the tables that the diagnosis uses. The tests run the program on every page, and
the diagnosis must name its mistake."""


def index(kinds: Sequence[Kind | KindOfPattern]) -> str:
    """Return the index as Markdown: a line for each kind, grouped by family."""
    families: dict[str, list[Kind | KindOfPattern]] = {}
    for kind in sorted(kinds, key=lambda kind: kind.family):
        families.setdefault(kind.family, []).append(kind)
    blocks = [_INTRODUCTION.format(count=len(kinds))]
    for family, members in families.items():
        blocks += [f"## {family}", "\n".join(map(_line, members))]
    return "\n\n".join(blocks) + "\n"


def _line(kind: Kind | KindOfPattern) -> str:
    return f"- [{kind.title}]({slug(kind.name)}.md): {_first_sentence(kind.own.cause.sentence)}"


# --- words -------------------------------------------------------------------------------------------------


_NAMES = {
    "phi": "φ'(z)",
    "dloss": "∂ℓ/∂a",
    "w": "",
    "w_n": "",
    "value": "v",
    "activation": "φ",
    "loss": "the loss",
}
"""What each placeholder in a formula becomes on a page, where no particular network is meant."""


def _plain(formula: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: _NAMES[found[1]], formula)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
