"""All mistakes that a diagnosis may name, both in chains of layers and in the steps of any graph."""

from __future__ import annotations

from gradcheck_cli.diagnose.branches import BRANCH_MISTAKES
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.other_networks import OTHER_NETWORK
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.diagnose.table import LIKELY
from gradcheck_cli.diagnose.wrong_scales import NAMES

_OF_CHAINS: tuple[Wrong, ...] = (*LIKELY, *NAMES, OTHER_NETWORK)
_KNOWN = frozenset(map(id, _OF_CHAINS))

_OF_STEPS = (variant.wrong for variant in VARIANTS if id(variant.wrong) not in _KNOWN)

NAMEABLE: tuple[Wrong, ...] = (*_OF_CHAINS, *_OF_STEPS, *BRANCH_MISTAKES)
"""All mistakes that may be named.

Several mistakes may be of the same kind; at least one mistake of each kind has code.
"""
