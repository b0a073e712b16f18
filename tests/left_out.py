"""`pytest --left-out`: run the slow tests, and those that the previous run skipped.

.ci/run first runs the README's command, which skips tests whose packages are not installed. Then it installs
every package, and runs the tests that were left out.
"""

from __future__ import annotations

import pytest

KEY = "gradcheck/skipped"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--left-out",
        action="store_true",
        help="run the slow tests, and those that the previous run skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and config.pluginmanager.has_plugin("cacheprovider"):
        config.pluginmanager.register(Skipped(config))


class Skipped:
    """A plugin that writes the names of all skipped tests and files to pytest's cache."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.names = config, set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            self.names.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if not self.config.option.collectonly:
            self.config.cache.set(KEY, sorted(self.names))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.left_out:
        return
    skipped = set(config.cache.get(KEY, []))  # without the cache, the skipped tests are not known
    others = [item for item in items if not _is_left_out(item, skipped)]
    items[:] = [item for item in items if _is_left_out(item, skipped)]
    # The longest tests are those of whole commands, in the files of the top folder. If they came last, as in
    # pytest's order, one process would still run one of them while the others have nothing left to do.
    items.sort(key=lambda item: item.nodeid.count("/"))
    config.hook.pytest_deselected(items=others)


def _is_left_out(item: pytest.Item, skipped: set[str]) -> bool:
    file = item.nodeid.partition("::")[0]
    return item.get_closest_marker("slow") is not None or bool(skipped & {item.nodeid, file})
