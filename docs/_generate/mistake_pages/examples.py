"""The right programs in which the pages on mistakes replace a line."""

from __future__ import annotations

from mistake_pages.convolution import CONVOLUTION
from mistake_pages.programs import DENSE, Example

EXAMPLES: tuple[Example, ...] = (*DENSE, CONVOLUTION)
"""The networks, from the plainest on; a page takes the first one in which its mistake shows and is named."""
