"""The page of the demo in a real browser: two widths, both themes, no error."""

import pytest
from chromium import BROWSER, look

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
]

LOOK = """
const root = document.documentElement;
const paper = () => getComputedStyle(document.body).backgroundColor;
const all = what => [...document.querySelectorAll(what)];
seen.wider = root.scrollWidth - root.clientWidth;
seen.sections = all("section").length;
seen.empty = all("section").filter(s => s.getBoundingClientRect().height < 150).length;
seen.flat = all("figure svg").filter(s => s.getBoundingClientRect().height < 90).length;
seen.formulas = all("math").map(m => m.getBoundingClientRect().height);
const line = document.querySelector("figure svg:not(.gradfit) path[style*='stroke: var(--curve)']");
const stroke = () => getComputedStyle(line).stroke;
seen.before = [paper(), stroke()];
document.getElementById("theme").click();
seen.after = [paper(), stroke()];
document.getElementById("theme").click();
seen.again = [paper(), stroke()];
seen.missing = all("nav a").filter(a => !document.querySelector(a.getAttribute("href"))).length;
"""


@pytest.fixture(scope="module", params=[(1100, False), (500, True)], ids=["wide", "narrow-dark"])
def seen(request, story, tmp_path_factory):
    width, dark = request.param
    page = (story.folder / "story.html").read_text()
    return look(page, LOOK, tmp_path_factory.mktemp("page"), width=width, dark=dark) | {
        "dark": dark
    }


def test_page_opens_without_an_error_and_fits_the_window(seen):
    assert seen["errors"] == []
    assert seen["wider"] <= 0
    assert seen["sections"] == 10
    assert (seen["empty"], seen["flat"], seen["missing"]) == (0, 0, 0)
    assert len(seen["formulas"]) == 3
    assert min(seen["formulas"]) > 25


def test_the_theme_follows_the_reader_and_the_button(seen):
    def light(colours):
        return sum(map(int, colours[0].removeprefix("rgb(").rstrip(")").split(","))) > 600

    assert light(seen["before"]) != seen["dark"]
    assert light(seen["after"]) == seen["dark"]
    assert seen["again"] == seen["before"]
    assert seen["after"][1] != seen["before"][1]
