"""A parameter of attention enters the products of q, k and v; perturbing these gives the same gradient."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli.moving import objective as of_network
from gradcheck_cli.network.carried import Carried
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.rearrange import Permute, Repeat, Reshape, Slice
from gradcheck_cli.numerical.reference import UnitDifferences
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.problem.problem import build_problem

TOKENS, WIDTH, SAMPLES = 4, 8, 3
ATTENTION = {
    "joint": {"attention": 2},
    "causal": {"attention": 2, "causal": True},
    "without bias": {"attention": 2, "bias": False},
    "grouped": {"attention": 2, "kv_heads": 1},
    "rotated": {"attention": 2, "rotary": True},
}


def objective_of(kind, seed):
    layers = ({"residual": ["layer_norm", ATTENTION[kind]]}, {"mean": True, "dim": 0}, {"units": 3})
    spec = spec_of(*layers, inputs=[TOKENS, WIDTH], loss="cross_entropy", samples=SAMPLES, seed=seed)
    return build_problem(spec).objective


def carried(objective):
    """Yield each parameter that enters a product, with the product's site and all its factors there."""
    for name in objective.shapes:
        uses = [use for use in objective.uses(name) if isinstance(use.factors, Carried)]
        for site in {use.site for use in uses}:
            yield name, site, [use.factors for use in uses if use.site == site]


def copied(objective, site, z, moved):
    """Return value `site` after `moved` replaces z, whose copies alone change on the way."""
    if site == z:
        return moved
    node = objective.graph.nodes[site - 1]
    if site < z or not isinstance(node.step, Matmul | Slice | Reshape | Permute | Repeat):
        return objective.values[site]
    return node.step.forward({}, *(copied(objective, k, z, moved) for k in node.inputs))


def jacobian(objective, name, site):
    """How each entry of a parameter, moved by 1, changes the numbers of a site, (entries, F, N)."""
    ((i, own),) = objective.graph.uses[name]
    node, p = objective.graph.nodes[i], objective.own[i]
    inputs = [objective.values[k] for k in node.inputs]
    rows = []
    for index in np.ndindex(p[own].shape):
        more = p[own].copy()
        more[index] += 1.0
        moved = copied(objective, site, i + 1, node.step.forward({**p, own: more}, *inputs))
        rows.append((moved - objective.values[site]).reshape(SAMPLES, -1).T)
    return np.array(rows)


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("seed", range(2))
def test_a_carried_parameter_is_that_of_an_affine_map(kind, seed):
    objective = objective_of(kind, seed)
    rng = np.random.default_rng(seed)
    found = list(carried(objective))
    assert found
    for name, site, factors in found:
        exact, shape = jacobian(objective, name, site), objective.shapes[name]
        d = rng.normal(size=exact.shape[1:])
        sums = sum(each.sums(d) for each in factors).ravel()
        np.testing.assert_allclose(sums, (exact * d).sum(axis=(1, 2)), rtol=1e-10, atol=1e-12)
        sizes = sum(each.sizes(abs(d)) for each in factors).ravel()
        assert (sizes >= (1 - 1e-9) * (abs(exact) * abs(d)).sum(axis=(1, 2)) - 1e-12).all()
        squares = sum(each.squares(abs(d)) ** 2 for each in factors).ravel()
        assert (squares >= (1 - 1e-9) * ((exact * d) ** 2).sum(axis=(1, 2)) - 1e-12).all()
        scores = isinstance(objective.graph.nodes[site - 1].step, Matmul) and all(
            each.link.one for each in factors if each.is_of_product
        )
        if scores:  # an entry affects a score through a single number of q or k
            np.testing.assert_allclose(squares, ((exact * d) ** 2).sum(axis=(1, 2)), rtol=1e-9, atol=1e-12)
        for entry in range(len(exact)):
            mask = np.zeros(shape, dtype=bool)
            mask.flat[entry] = True
            feeding = np.logical_or.reduce([each.feeding(mask) for each in factors])
            assert not ((exact[entry] != 0).any(axis=1) & ~feeding).any()


@pytest.mark.parametrize("kind", ATTENTION)
def test_some_units_have_the_same_carried_factors_as_all(kind):
    objective = objective_of(kind, 5)
    for name, each in ((name, each) for name, _, factors in carried(objective) for each in factors):
        units = np.random.default_rng(1).permutation(objective.shapes[name][0])[:3]
        d = np.random.default_rng(2).normal(size=(each.features[1], SAMPLES))
        some, kept = each.only(units), each.of(units)
        np.testing.assert_allclose(some.sums(d[kept]), each.sums(d)[units], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(some.sizes(abs(d[kept])), each.sizes(abs(d))[units], rtol=1e-12)
        np.testing.assert_allclose(some.squares(abs(d[kept])), each.squares(abs(d))[units], rtol=1e-12)


@pytest.mark.parametrize("kind", ATTENTION)
def test_products_give_the_gradient_of_their_factors(kind, monkeypatch):
    def estimates():
        objective = objective_of(kind, 7)
        names = [name for name, *_ in carried(objective)] or list(above)
        return UnitDifferences(objective, SCHEMES[DEFAULT_SCHEME]).estimate(names)

    above = estimates()
    monkeypatch.setattr(of_network, "places", lambda graph, values, use: [use])
    below = estimates()
    for name, one in above.items():
        other = below[name]
        assert (abs(one.value - other.value) <= 3.0 * np.hypot(one.error, other.error)).all()
        assert np.median(one.error) <= 2.0 * np.median(other.error)


def test_a_perturbed_number_of_a_product_changes_one_token():
    objective = objective_of("joint", 0)
    sites = {use.site for use in objective.uses("attention1.in_proj_weight")}
    assert [objective.graph.value_features[site] for site in sorted(sites)] == [(2, 4, 4), (2, 4, 4)]
    assert all(isinstance(objective.graph.nodes[site - 1].step, Matmul) for site in sites)


def test_a_product_with_more_features_than_its_factor_is_not_perturbed():
    layers = ({"attention": 4}, {"units": 2})
    objective = build_problem(spec_of(*layers, inputs=[6, 4], loss="mse", samples=2, seed=0)).objective
    sites = [use.site for use in objective.uses("attention1.in_proj_weight")]
    shapes = [objective.graph.value_features[site] for site in sites]
    assert (4, 6, 6) not in shapes
    assert shapes[-1] == (4, 6, 1)


def test_every_look_at_a_parameter_shares_its_rounding_bounds():
    objective = objective_of("joint", 0)
    assert all(objective.entries(name) is objective.entries(name) for name in objective.shapes)
