"""The sites of the user's code: arrays inside it that parameters enter affinely, and that can be perturbed.

An example is the output z = a wᵀ + b of a linear layer. One finite difference for an entry of a site is used
for all parameter entries that affect it; the module `numerical.reference` explains why. The code that finds a
site has verified it with forward passes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from gradcheck_cli.numerical.objective import Site, Use
from gradcheck_cli.types import Array


class Sites(Protocol):
    """The sites of a function, and the losses after entries of one site are shifted.

    A site has F features of each of N samples. If the samples depend on each other, all of them count as one
    sample, so N is 1.
    """

    @property
    def why_none(self) -> str:
        """How the code failed, if this is why it has no sites; otherwise empty."""

    @property
    def uses(self) -> Mapping[str, Sequence[Use]]:
        """Every use of each parameter that has sites. The parameter enters the loss in no other way."""

    def values(self, site: Site) -> Array:
        """Return the entries of a site, (F, N)."""

    def terms(self, site: Site) -> Array:
        """Return the indices of the k loss terms that each of the N samples of a site affects, (N, k)."""

    def at_once(self, site: Site) -> int:
        """Return the number of features of a site to perturb in one call of `shifted`."""

    def shifted(self, site: Site, features: Sequence[int], shifts: Array) -> Array:
        """Return the S loss terms for each of K features, (K, S), if that feature alone is shifted.

        shifts: one shift for each sample of each feature, (K, N).
        """

    def rest(self) -> Array:
        """Return the S loss terms if nothing is shifted."""

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """Return the loss terms at other parameters.

        There may be more of these terms than the function itself returns.
        """


@dataclass(frozen=True)
class NoSites:
    """The empty collection of sites, for a function that is a black box."""

    why_none: str = ""

    uses: ClassVar[Mapping[str, Sequence[Use]]] = {}

    def values(self, site: Site) -> Array:
        raise LookupError(site)

    def terms(self, site: Site) -> Array:
        raise LookupError(site)

    def at_once(self, site: Site) -> int:
        raise LookupError(site)

    def shifted(self, site: Site, features: Sequence[int], shifts: Array) -> Array:
        raise LookupError(site)

    def rest(self) -> Array:
        return np.zeros(0)

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        return np.zeros(0)


NO_SITES: Sites = NoSites()
