"""Render a run as JUnit XML for GitLab and Jenkins: one suite per spec, and one case per tensor.

GitLab shows `classname`, `name`, `file`, `time` and the body of a failure; if several cases have the same
name, it shows only the first. Jenkins also shows the `message` of a failure. The spec's time is divided among
its tensors in proportion to their entries.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.files import Written, told_from
from gradcheck_cli.formats.glyphs import escaped, reference, without_commands
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.tensors import FEW, describe
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict

WRITTEN = Written((".xml",), re.compile(r"\A\s*<(\?xml|testsuite)"))


def render(run: Run, view: View) -> str:
    """Return the run as XML.

    The text is ASCII with character references, so that no encoding can corrupt it.
    """
    suites = Element("testsuites", _attributes(name="gradcheck"))
    times_seen: Counter[str] = Counter()
    for outcome in run.outcomes:
        times_seen[outcome.spec] += 1
        suites.append(_suite(outcome, _unique(outcome.spec, times_seen[outcome.spec]), view))
    _add_totals(suites, list(suites.iter("testcase")), run.outcomes)
    indent(suites)
    text = tostring(suites, encoding="us-ascii", xml_declaration=True).decode("ascii")
    return without_commands(text, reference) + "\n"


def _unique(spec: str, times_seen: int) -> str:
    return spec if times_seen == 1 else f"{spec} ({times_seen})"


def _suite(outcome: Outcome, name: str, view: View) -> Element:
    suite = Element("testsuite", _attributes(name=name))
    for case in _cases(outcome, view):
        case.attrib |= _attributes(classname=name, file=told_from(view.root, outcome.spec))
        suite.append(case)
    _add_totals(suite, list(suite), (outcome,))
    suite.set("skipped", "0")
    return suite


def _add_totals(element: Element, cases: list[Element], outcomes: tuple[Outcome, ...]) -> None:
    element.set("tests", str(len(cases)))
    for kind in ("failure", "error"):
        element.set(f"{kind}s", str(sum(case.find(kind) is not None for case in cases)))
    element.set("time", _time(sum(outcome.seconds for outcome in outcomes)))


def _cases(outcome: Outcome, view: View) -> Iterator[Element]:
    if outcome.report is None:
        yield _not_checked(outcome)
        return
    for comparison in outcome.report.comparisons:
        share = comparison.entries / max(outcome.report.entries, 1)
        seconds = outcome.seconds * share
        yield _case(outcome, outcome.report, comparison, seconds, view.show or FEW)


def _case(outcome: Outcome, report: Report, comparison: Comparison, seconds: float, most: int) -> Element:
    """Return the test case for a tensor.

    Wrong and undecided gradients are both failures. The type of the failure is the verdict.
    """
    case = Element("testcase", _attributes(name=comparison.name, time=_time(seconds)))
    verdict = report.verdict_of(comparison)
    if verdict is not Verdict.AGREES:
        lines = describe(report, comparison, most)
        body = "\n".join(map(escaped, [*lines, *_place(outcome, comparison.name)]))
        SubElement(case, "failure", _attributes(message=lines[0], type=verdict)).text = _legal(body)
    return case


def _place(outcome: Outcome, tensor: str) -> Iterator[str]:
    if place := outcome.places.get(tensor):
        yield f"{place.file}:{place.line}:{place.column}"


def _not_checked(outcome: Outcome) -> Element:
    """Return the test case for a spec that could not be checked. This is an error, not a failure."""
    case = Element("testcase", _attributes(name="spec", time=_time(outcome.seconds)))
    kind = "defect" if outcome.exit_code is ExitCode.DEFECT else "bad input"
    message = outcome.complaints[0].message if outcome.complaints else "not checked"
    error = SubElement(case, "error", _attributes(message=message, type=kind))
    error.text = _legal("\n".join(map(str, outcome.complaints)) or message)
    return case


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"


def _attributes(**texts: str) -> dict[str, str]:
    return {name: _legal(text) for name, text in texts.items() if text}


_ILLEGAL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Matches control characters and lone surrogates, which XML 1.0 cannot contain, and carriage returns.

Parsers alter carriage returns.
"""


def _legal(text: str) -> str:
    return _ILLEGAL.sub(lambda match: ascii(match[0])[1:-1], text)
