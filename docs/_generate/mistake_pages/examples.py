"""The right programs in which the pages on mistakes replace a line."""

from __future__ import annotations

from mistake_pages.convolution import CONVOLUTION
from mistake_pages.given import GIVEN
from mistake_pages.losses import LOSSES
from mistake_pages.normalisations import NORMALISATIONS
from mistake_pages.program import Program
from mistake_pages.programs import DENSE
from mistake_pages.sequences import SEQUENCES
from mistake_pages.windows import WINDOWS

EXAMPLES: tuple[Program, ...] = (
    *DENSE,
    *LOSSES,
    CONVOLUTION,
    *WINDOWS,  # small ones first: a code that fits many examples is tried in each
    *NORMALISATIONS,
    *SEQUENCES,
    *GIVEN,
)
"""The networks, from the plainest on; a page takes the first one in which its mistake shows and is named."""
