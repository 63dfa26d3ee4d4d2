"""The documentation: built as its command does, then every link followed and every page opened."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import BROWSER, look

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = [*DOCS.glob("*.md"), *DOCS.glob("*.rst"), *DOCS.glob("zh/*.md")]
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in SOURCES)
PROMISED = {
    "choosing", "coming_from", "getting_started", "graph", "index", "line", "performance",
    "reference", "shapes", "statistics", "zh/line",
}  # fmt: skip

pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """What a page names, leads to, and loads."""

    def __init__(self, text):
        super().__init__()
        self.names, self.targets, self.loaded = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.targets.add(given["href"])
        for key in ("src", "href"):
            if tag in ("img", "script", "link", "source") and given.get(key):
                self.loaded.add(given[key])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("myst_nb")
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site")
    source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         str(ROOT / "docs"), str(folder / "html")],
        capture_output=True, text=True, timeout=900, env=os.environ | {"PYTHONPATH": source},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return folder / "html"


@pytest.fixture(scope="module")
def links(site):
    return {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_there(site):
    assert set(PAGES) >= PROMISED
    assert [page for page in PAGES if not (site / f"{page}.html").exists()] == []


def test_links_lead_somewhere_and_pictures_exist(links):
    broken = []
    for page, found in links.items():
        for link in found.targets | found.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchors = links[target].names if target in links else None
            missing = anchors is not None and parts.fragment and parts.fragment not in anchors
            if not target.exists() or missing:
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(links):
    outside = {link for found in links.values() for link in found.loaded if urlsplit(link).netloc}
    assert outside == set()


def test_outputs_hold_no_error_and_no_warning(site):
    output = re.compile(r'<div class="output [^"]*">(.*?)</div>', flags=re.DOTALL)
    texts = {page: (site / f"{page}.html").read_text(encoding="utf-8") for page in PAGES}
    said = [(page, text) for page in PAGES for text in output.findall(texts[page])]
    assert len(said) > 50
    assert [page for page, text in said if re.search(r"Traceback|Warning:", text)] == []


def test_english_and_chinese_tell_with_the_same_code():
    def code(page):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        cells = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```", text, flags=re.DOTALL | re.M)
        lines = [line for cell in cells for line in cell.splitlines()]
        return {line for line in lines if re.match(r"\w[\w, ]* = gf\.|def |slope = ", line)}

    english, chinese = code("line.md"), code("zh/line.md")
    assert len(english) >= 10
    assert english <= chinese


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
@pytest.mark.parametrize("page", PAGES)
def test_pages_open_without_an_error_and_fit_the_window(site, page, width, dark):
    script = """
    const root = document.documentElement;
    seen.wider = root.scrollWidth - root.clientWidth;
    seen.blank = [...document.images].filter(i => i.complete && !i.naturalWidth).length;
    seen.paper = getComputedStyle(document.body).backgroundColor;
    """
    path = site / f"{page}.html"
    seen = look(path.read_text(encoding="utf-8"), script, path.parent, width=width, dark=dark)
    assert seen["errors"] == []
    assert seen["wider"] <= 0
    assert seen["blank"] == 0
    brightness = sum(map(int, re.findall(r"\d+", seen["paper"])[:3]))
    assert (brightness < 200) == dark
