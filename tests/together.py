"""With `--dist loadgroup`, tests that share an expensive fixture run in one process.

Making the pages on mistakes or a wheel, or starting a cluster or a browser, takes longer than any test that
uses them. The marker `xdist_group` of pytest-xdist 3.8 would do the same, but has no effect with pytest 9.
"""

from __future__ import annotations

from typing import Any

import pytest

TOGETHER = {
    "site": (
        "tests/test_site.py::",
        "tests/test_mistake_pages.py::test_the_wrong_code_is_called_wrong_and_named",
        "tests/test_mistake_pages.py::test_a_page_is_what_its_program_and_its_spec_lead_to",
        "tests/test_mistake_pages.py::test_the_index_links_to_every_page_and_every_link_has_a_target",
        "tests/test_mistake_pages.py::test_the_mistake_is_in_the_lines_that_the_page_marks",
    ),
    "cluster": ("tests/parallel/test_dask.py::",),
    "browser": ("tests/formats/test_html_in_browser.py::",),
    "wheel": ("tests/test_distributions.py::",),
}
"""For each group, what the names of its tests begin with."""


def group_of(name: str) -> str:
    """Return the group of a test; its own name if it has none."""
    return next((group for group, beginnings in TOGETHER.items() if name.startswith(beginnings)), name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Scheduler(config, log)
