"""Check as much of the user's code as possible through its sites; check the rest in another way.

A site is a value inside the code, such as the output of a module, that can be perturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.code.precision import noise_of_terms
from gradcheck_cli.code.site_objective import SiteObjective
from gradcheck_cli.code.sites import Sites
from gradcheck_cli.directions.plan import literal_is_asked_for, seconds_of_pass
from gradcheck_cli.directions.projections import EVALUATIONS
from gradcheck_cli.entries.claim import Claim
from gradcheck_cli.entries.sites import check_by_sites
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.parallel.clock import Clock
from gradcheck_cli.report import Checked
from gradcheck_cli.spec.check import CheckSpec

PATIENCE = 60.0
"""Sites are used if perturbing all of their elements takes at most this many seconds.

This limit is longer than that for literal differences, because the alternative is a few random directions.
"""

_SLOWER = "the slower way was taken, since no output of a module can be perturbed: {}"


def checked_through_sites(
    objective: ForeignObjective, claim: Claim, how: CheckSpec, progress: Progress | None, clock: Clock
) -> tuple[Checked, Sequence[str]]:
    """Check the tensors that have sites, and return the findings and the names of all other tensors."""
    nothing = Checked((), how.scheme, "units", {})
    if how.fast or literal_is_asked_for(how):
        return nothing, claim.names
    sites = objective.function.sites(claim.names)
    names = [name for name in claim.names if name in sites.uses]
    if sites.why_none:
        return replace(nothing, notes=(_SLOWER.format(sites.why_none),)), claim.names
    code = _with_noise(objective, sites, names)
    if not code.site_noise or _seconds(code, names, clock) > PATIENCE:
        return nothing, claim.names
    scheme = SCHEMES[how.scheme]
    units = UnitDifferences(code, scheme, how.step, progress)
    literal = LiteralDifferences(code, scheme, how.step, progress)
    checked, doubted = check_by_sites(claim.only(names), units, literal, how, progress)
    return checked, [name for name in claim.names if name not in names or name in doubted]


def _with_noise(objective: ForeignObjective, sites: Sites, names: Sequence[str]) -> SiteObjective:
    """Return the objective with its sites, and with the noise of the loss terms that the sites affect.

    The noise is empty if there are no sites, or if the sites cannot be used.
    """
    function, noise = objective.function, {name: objective.noise[name] for name in names}
    if len(sites.rest()) != function.terms and names:
        noise = noise_of_terms(function, sites.losses, objective.noise) or {}
    return SiteObjective(function, objective.noise, objective.evaluator, sites=sites, site_noise=noise)


def _seconds(code: SiteObjective, names: Sequence[str], clock: Clock) -> float:
    sites = sorted({use.site for name in names for use in code.uses(name)})
    runs = EVALUATIONS * sum(code.site_shape(site)[0] for site in sites)
    return runs * seconds_of_pass(code.units(sites[0]), code.site_shape(sites[0])[1], clock)


def joined(names: Sequence[str], through: Checked, rest: Checked) -> Checked:
    """Return the findings of both checks in the order of `names`, with a sentence about each check."""
    if not through.comparisons:
        return replace(rest, notes=through.notes)
    found = {c.name: c for c in (*through.comparisons, *rest.comparisons)}
    by_units = listed(c.name for c in through.comparisons)
    how = rest.way[:1].lower() + rest.way[1:] or "checked entry by entry."
    return Checked(
        tuple(found[name] for name in names),
        through.scheme,
        "directions" if rest.differences == "directions" else "units",
        {**through.on_kinks, **rest.on_kinks},
        notes=through.notes,
        way=f"Unit differences checked {by_units}. The other tensors were {how}",
    )
