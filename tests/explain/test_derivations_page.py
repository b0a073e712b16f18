"""The forward and backward pass of every kind of layer on a page, made from the formulas of the steps."""

from __future__ import annotations

import re

import pytest
from derivations import EXAMPLES, graph, page
from paths import ROOT

from gradcheck_cli.spec.layers import KINDS

LAYERS = (ROOT / "docs" / "reference" / "layers.md").read_text(encoding="utf-8")


def test_every_kind_of_layer_has_an_example():
    shown = {node.place[-1] for example in EXAMPLES for node in graph(example).nodes}
    assert shown == set(KINDS), "add an example to docs/_generate/derivations.py"


def test_the_page_shows_every_kind_of_layer_once():
    shown = re.findall(r"^<!-- generated: derivations (.+) -->$", LAYERS, re.MULTILINE)
    assert sorted(" ".join(shown).split()) == sorted(KINDS), "add the kind to docs/reference/layers.md"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_heading_its_gradients_and_the_shapes_of_its_parameters(kind):
    section = page(kind)
    assert section.startswith(f"### `{kind}`")
    assert "\n\n∂L/∂" in section or "\n\nδ = " in section
    example = next(each for each in EXAMPLES if kind in each.layer)
    for name, shape in graph(example).shapes.items():
        if not name.startswith("output."):
            assert f"| `{name}` | `{list(shape)}` |" in section or kind == "residual"


def test_kinds_with_the_same_formulas_share_a_heading():
    assert page("conv1d", "conv2d").count("###") == 1
    assert page("softmax", "log_softmax").count("###") == 2
    assert "### `units` with `batch_norm`" in page("units")


def test_the_gradient_of_batch_normalisation_has_all_three_terms():
    assert "δ = (∂L/∂ẑ − mean ∂L/∂ẑ − ẑ mean(∂L/∂ẑ ẑ)) / √(var z + eps)" in page("units")
