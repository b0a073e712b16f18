"""With `--dist loadgroup`, the tests of the site run in one process, since each needs the pages on mistakes.

Making those pages takes longer than any test. The marker `xdist_group` of pytest-xdist 3.8 would do the same,
but has no effect with pytest 9.
"""

from __future__ import annotations

from typing import Any

import pytest

TOGETHER = (
    "tests/test_site.py::",
    "tests/test_mistake_pages.py::test_a_page_is_what_its_program_and_its_spec_lead_to",
    "tests/test_mistake_pages.py::test_the_index_links_to_every_page_and_every_link_has_a_target",
    "tests/test_mistake_pages.py::test_the_mistake_is_in_the_lines_that_the_page_marks",
)
"""What the names of these tests begin with."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "site" if nodeid.startswith(TOGETHER) else nodeid

    return Scheduler(config, log)
