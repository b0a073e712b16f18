"""The docs page with the derivation of every kind of layer, made from the formulas of the steps."""

from __future__ import annotations

from derivations import EXAMPLES, graph, page

from gradcheck_cli.spec.layers import KINDS


def test_the_page_has_every_kind_of_layer():
    shown = {node.place[-1] for example in EXAMPLES for node in graph(example).nodes}
    assert shown == set(KINDS), "add an example to docs/_generate/derivations.py"


def test_every_kind_has_a_heading_and_its_gradients():
    sections = page().split("## ")[1:]
    assert [section.split("\n")[0].split(" with ")[0] in KINDS for section in sections]
    assert len(sections) == len(EXAMPLES)
    assert all("∂L/∂" in section for section in sections)
    assert "δ = (∂L/∂ẑ − mean ∂L/∂ẑ − ẑ mean(∂L/∂ẑ ẑ)) / √(var z + eps)" in page()
