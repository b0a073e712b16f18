"""The HTML report in a real headless browser: sorting, filtering, and cell tips.

Needs Debian's packages chromium and chromium-driver, and selenium.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reports import NOT_FINITE, RIGHT, UNKNOWN, WRONG, ZERO, comparison, diagnosis, report

from gradcheck_cli.errors import Complaint
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.html import cells
from gradcheck_cli.formats.words import numbers
from gradcheck_cli.report import Outcome, Run

pytest.importorskip("jinja2")
pytest.importorskip("selenium", reason="pip install selenium")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

if not (BROWSER and DRIVER):
    pytest.skip("no browser: apt-get install chromium chromium-driver", allow_module_level=True)

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(6, 9)) * 10.0 ** RNG.integers(-12, 12, (6, 9))
WEIGHT = comparison(
    "output.weight", MATRIX, MATRIX * np.where(np.eye(6, 9, 3), 1.5, 1 + 1e-10), np.abs(MATRIX) * 1e-9
)
LARGE = comparison("fc.weight", RNG.normal(size=(50, 784)), np.zeros((50, 784)))
OUTCOMES = (
    Outcome("wrong.yaml", report(WEIGHT, WRONG, UNKNOWN, diagnosis=diagnosis()), seconds=0.25),
    Outcome("right.yaml", report(RIGHT, ZERO)),
    Outcome("bad <b>.yaml", complaints=(Complaint("unknown key 'activaton'" * 20, help="did you mean it?"),)),
    Outcome("large.yaml", report(LARGE, NOT_FINITE)),
)


class Page:
    """A page in the browser."""

    def __init__(self, driver: webdriver.Chrome, file: Path) -> None:
        self.driver = driver
        driver.get(file.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of the visible elements."""
        found = self.driver.find_elements("css selector", selector)
        return [each.text for each in found if each.is_displayed()]

    def hover(self, of: str, row: int, column: int) -> str:
        """Point at a cell, and return the text of its tip."""
        x, y = self.centre(of, row, column)
        canvas = self.find(f"[data-map='{of}'] canvas")
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
        left, top = self.run("(({x, y}) => [x, y])(arguments[0].getBoundingClientRect())", canvas)
        for near in (2, 0):  # the first movement only reaches the canvas
            actions = ActionChains(self.driver, duration=0)
            actions.w3c_actions.pointer_action.move_to_location(int(left + x + near), int(top + y))
            actions.perform()
        return self.find("#tip").text

    def centre(self, of: str, row: int, column: int) -> tuple[float, float]:
        """Return the centre of a cell on the canvas."""
        edge, width, height, scale = self.run(
            "(({edge, width, height, scale}) => [edge, width, height, scale])(drawn.get(arguments[0]))", of
        )
        return (edge + (column + 0.5) * width) / scale, (edge + (row + 0.5) * height) / scale

    def pixels(self, of: str, *points: tuple[float, float]) -> list[list[int]]:
        """Return red, green and blue of points on the canvas."""
        return self.run(PIXELS, self.find(f"[data-map='{of}'] canvas"), [list(map(int, at)) for at in points])


PIXELS = """((canvas, points) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return points.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3));
})(...arguments)"""


def tip_of(of, index: tuple[int, ...]) -> list[str]:
    """Return the tip expected for an entry, in the words and digits of the tables."""
    entry = of.entry(index)
    return [
        f"{of.name}{numbers.index(index)} {entry.verdict}",
        "analytic", numbers.number(entry.analytic),
        "numerical", numbers.measured(entry.numerical, entry.error),
        "relative error", numbers.relative(entry.relative_error),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(DRIVER, log_output=os.devnull)
    with webdriver.Chrome(options, service) as driver:
        yield driver


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render("html", Run(OUTCOMES), View()), encoding="utf-8")
    return file


def show(driver: webdriver.Chrome, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    preferred = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in preferred.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def page(driver, file) -> Iterator[Page]:
    """Open a page; whatever a test does, the console stays silent and only the file is requested."""
    show(driver, 1280, "light")
    for log in ("browser", "performance"):
        driver.get_log(log)
    yield Page(driver, file)
    assert driver.get_log("browser") == []
    assert requested(driver) <= {file.as_uri(), "data:,"}


def requested(driver: webdriver.Chrome) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {params["request"]["url"] for params in sent}


def test_the_page_opens_with_everything_in_place(page, driver):
    assert page.driver.title == "✗ gradcheck: 4 specs: 1 agree, 2 wrong, 1 not checked."
    assert page.texts(".summary") == ["✗ 4 specs: 1 agree, 2 wrong, 1 not checked."]
    assert page.texts("h2") == ["Specs", "wrong.yaml", "right.yaml", "bad <b>.yaml", "large.yaml"]
    assert page.texts("#shown") == ["7 of 7 tensors"]
    assert page.texts(".formulas dd") == ["δ = ∂L/∂a", "δ = ∂L/∂a · a (1 − a)"]


def test_requests_would_be_seen(page, driver, tmp_path):
    (tmp_path / "other.html").write_text("<p>Other</p>", encoding="utf-8")
    driver.get((tmp_path / "other.html").as_uri())
    assert (tmp_path / "other.html").as_uri() in requested(driver)


def tensors(page: Page) -> list[str]:
    return page.texts("#spec-0 .unfold")


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("tensor", ["hidden1.bias", "output.bias", "output.weight"], None),
        ("entries", ["output.weight", "output.bias", "hidden1.bias"], None),
        (
            "rel error",
            ["output.bias", "output.weight", "hidden1.bias"],
            ["output.weight", "output.bias", "hidden1.bias"],
        ),
    ],
)
def test_a_table_is_sorted_by_a_column_and_then_the_other_way_round(page, column, first, second):
    """Rows without a number stay last in both directions."""
    button = page.driver.find_element("xpath", f"//*[@id='spec-0']//button[text()='{column}']")
    for expected in (first, second or first[::-1]):
        button.click()
        assert tensors(page) == expected
    order = page.run("arguments[0].closest('th').getAttribute('aria-sort')", button)
    assert order == ("descending" if column == "tensor" else "ascending")


def test_specs_are_sorted_as_well(page):
    page.driver.find_element("xpath", "//table[1]//button[text()='entries']").click()
    assert page.texts(".overview tbody th") == ["large.yaml", "wrong.yaml", "right.yaml", "bad <b>.yaml"]


def test_the_filter_leaves_the_tensors_and_maps_whose_names_match(page):
    page.find("#name").send_keys("wrong bias")
    assert tensors(page) == ["output.bias", "hidden1.bias"]
    assert page.texts("#spec-0 figcaption strong") == ["output.bias", "hidden1.bias"]
    assert page.texts(".spec h2") == ["wrong.yaml"]
    assert page.texts("#shown") == ["2 of 7 tensors"]
    page.find("#name").clear()
    page.find("#name").send_keys(" ")
    assert page.texts("#shown") == ["7 of 7 tensors"]


def test_the_filter_leaves_the_verdicts_that_are_ticked(page):
    assert page.texts(".filter fieldset label") == ["✓ agrees", "✗ wrong", "? unresolved", "✗ not checked"]
    for verdict in ("wrong", "not checked"):
        page.find(f"[name=verdict][value='{verdict}']").click()
    assert page.texts(".spec h2") == ["wrong.yaml", "right.yaml"]
    assert tensors(page) == ["hidden1.bias"]


def test_a_row_unfolds_to_its_worst_entries_and_folds_again(page):
    assert page.texts("#detail-0-0") == []
    button = page.find("[aria-controls='detail-0-0']")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "true"
    assert page.texts("#detail-0-0 .goto")[0] == numbers.index(WEIGHT.worst()[0].index)
    button.click()
    assert page.texts("#detail-0-0") == []


@pytest.mark.parametrize("index", [(0, 3), (0, 0), (5, 8), (5, 0), (2, 7), (3, 1), (4, 4)])
def test_the_pointer_reads_index_and_values_of_a_cell(page, index):
    assert page.hover("0-0", *index).splitlines() == tip_of(WEIGHT, index)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_pointer_reads_numbers_that_are_not_finite(page, column):
    assert page.hover("3-1", 0, column).splitlines() == tip_of(NOT_FINITE, (column,))


def test_an_entry_that_is_unknown_or_zero_has_no_relative_error(page):
    assert page.hover("0-2", 0, 1).splitlines() == tip_of(UNKNOWN, (1,))
    page.run("document.getElementById('spec-1').open = true")
    title, *_, error = page.hover("1-1", 0, 1).splitlines()
    assert (title, error) == ("hidden1.weight[0, 1] agrees, 0 on both sides", "–")


def test_a_pixel_of_a_large_matrix_is_read_as_well(page):
    assert page.hover("3-0", 31, 555).splitlines() == tip_of(LARGE, (31, 555))


def test_the_tip_goes_with_the_pointer(page):
    page.hover("0-0", 2, 2)
    assert page.texts("#tip")
    ActionChains(page.driver).move_to_element(page.find("h1")).perform()
    assert page.texts("#tip") == []


def test_the_arrow_keys_go_from_cell_to_cell_and_stop_at_the_edge(page):
    canvas = page.find("[data-map='0-0'] canvas")
    canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert page.find("#tip").text.splitlines() == tip_of(WEIGHT, (1, 2))
    canvas.send_keys(Keys.END, Keys.ARROW_RIGHT, *[Keys.ARROW_DOWN] * 9)
    assert page.find("#tip").text.splitlines() == tip_of(WEIGHT, (5, 8))
    canvas.send_keys(Keys.HOME, Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert page.find("#tip").text.splitlines() == tip_of(WEIGHT, (4, 0))
    canvas.send_keys(Keys.ESCAPE)
    assert page.texts("#tip") == []


def test_a_listed_entry_leads_to_its_cell(page):
    page.find("[aria-controls='detail-0-0']").click()
    page.driver.find_elements("css selector", "#detail-0-0 .goto")[4].click()
    assert page.find("#tip").text.splitlines() == tip_of(WEIGHT, WEIGHT.worst(5)[4].index)
    assert page.run("document.activeElement === document.querySelector('[data-map=\"0-0\"] canvas')")


def test_a_finger_reads_a_cell(page):
    canvas = page.find("[data-map='0-0'] canvas")
    page.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    left, top = page.run("(({x, y}) => [x, y])(arguments[0].getBoundingClientRect())", canvas)
    x, y = page.centre("0-0", 3, 4)
    point = {"x": int(left + x), "y": int(top + y)}
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert page.find("#tip").text.splitlines() == tip_of(WEIGHT, (3, 4))


def test_wrong_entries_are_outlined_and_have_their_own_colour(page):
    page.hover("0-0", 0, 0)
    x, y = page.centre("0-0", 1, 4)
    left, _ = page.centre("0-0", 1, 3)
    right = page.centre("0-0", 3, 1)
    wrong, as_wrong, agrees, outline = page.pixels(
        "0-0", (x, y), page.centre("0-0", 2, 5), right, ((left + x) / 2 - 2, y)
    )
    assert outline == [255, 59, 31]
    assert wrong == as_wrong
    assert sum(wrong) > sum(agrees) + 150  # near the bright end


def test_a_region_of_wrong_cells_has_one_border_around_it(driver, tmp_path):
    whole = comparison("w", np.ones((4, 5)), np.full((4, 5), 2.0))
    hole = comparison("v", np.ones((4, 5)), np.where(np.eye(4, 5), 1.0, 2.0))
    file = tmp_path / "wrong.html"
    file.write_text(render("html", Run((Outcome("a.yaml", report(whole, hole)),)), View()), encoding="utf-8")
    page = Page(driver, file)
    show(driver, 1280, "light")
    page.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    page.run("document.querySelectorAll('.unfold').forEach((button) => button.click())")
    for of, cell in (("0-0", (1, 1)), ("0-1", (1, 3))):
        page.hover(of, 0, 0)
        x, y = page.centre(of, *cell)
        edge, width, height = page.run(
            "(({edge, width, height}) => [edge, width, height])(drawn.get(arguments[0]))", of
        )
        rules = [
            (x + width / 2 - 0.5, y),
            (x, y + height / 2 - 0.5),
            (x + width / 2 - 0.5, y + height / 2 - 0.5),
        ]
        rim = [(edge - 1, y), (x, edge - 1)]
        *within, left, top = page.pixels(of, *rules, *rim)
        assert [255, 59, 31] not in within
        assert left == top == [255, 59, 31]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_is_legible_light_and_dark_and_as_wide_as_the_window(page, driver, scheme, width):
    show(driver, width, scheme)
    page.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    page.run("document.querySelectorAll('.unfold').forEach((button) => button.click())")
    assert page.run("document.documentElement.scrollWidth") <= width
    background = luminance(page.run("getComputedStyle(document.body).backgroundColor"))
    assert (background > 0.8) if scheme == "light" else (background < 0.05)
    assert [faint for faint in page.run(CONTRASTS) if contrast(*faint[1:]) < 4.5] == []


CONTRASTS = """(() => {
  const below = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? below(element.parentElement) : colour;
  };
  const says = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && says(element))
    .map((element) => [element.textContent.trim(), getComputedStyle(element).color, below(element)]);
})()"""


def luminance(colour: str) -> float:
    """Return the luminance of an sRGB colour, as WCAG 2 defines it."""
    red, green, blue = (int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(text: str, background: str) -> float:
    light, dark = sorted((luminance(text), luminance(background)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_tensor_too_large_for_the_page_says_of_how_many_entries_a_cell_is_the_worst(
    driver, tmp_path, monkeypatch
):
    monkeypatch.setattr(cells, "PAGE", 40)
    show(driver, 1280, "light")
    file = tmp_path / "small.html"
    file.write_text(render("html", Run((Outcome("net.yaml", report(WEIGHT)),)), View()), encoding="utf-8")
    page = Page(driver, file)
    assert "6 × 9: each cell is the worst of 1 × 2 entries" in page.texts("figcaption")[0]
    *tip, note = page.hover("0-0", 0, 1).splitlines()
    assert (tip, note) == (tip_of(WEIGHT, (0, 3)), "the worst of 1 × 2 entries")


USUAL = [comparison("hidden1.weight", [[-1.161837336e-06] * 64], [[-1.161837304e-06] * 64], 3e-11)]


@pytest.fixture
def usual(tmp_path, driver):
    """Open a page of rows of ordinary width, all of them folded."""
    file = tmp_path / "usual.html"
    outcomes = (Outcome("configs/digits_mlp.yaml", report(*USUAL)), Outcome("configs/b.yaml", report(RIGHT)))
    file.write_text(render("html", Run(outcomes), View()), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [1440, 1280, 1200, 1000, 800, 600, 400])
def test_the_tables_fit_the_window_and_keep_the_verdict(usual, driver, width):
    show(driver, width, "light")
    page = Page(driver, usual)
    page.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    scrolls = "[...document.querySelectorAll('.scroll')].map((each) => each.scrollWidth - each.clientWidth)"
    assert page.run(scrolls) == [0, 0, 0]
    headings = page.texts(".tensors > thead th")[:3]
    assert headings[:2] == ["tensor", "verdict"]
