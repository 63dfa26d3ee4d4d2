"""``gradfit demo``: the numbers of the story, what is said on screen, and the page."""

import json
import re

import numpy as np
import pytest
import torch
from descents import by_hand
from oracles.york import york

from gradfit.app import demo, tutorial
from gradfit.app.story import CHAPTERS

X, Y = tutorial.points()


def loss(a, b):
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    return torch.mean((a * x - y + b) ** 2 / (a**2 + 1))


@pytest.fixture(scope="module")
def numbers(story):
    return json.loads((story.folder / "story.json").read_text())


@pytest.fixture(scope="module")
def page(story):
    return (story.folder / "story.html").read_text()


# -- numbers ---------------------------------------------------------------------------------------


def test_the_closed_form_is_the_direction_of_largest_scatter(numbers):
    _, _, directions = np.linalg.svd(np.column_stack([X - X.mean(), Y - Y.mean()]))
    slope = directions[0, 1] / directions[0, 0]
    assert numbers["closed_form"]["a"] == pytest.approx(slope, rel=1e-12)
    assert numbers["closed_form"]["b"] == pytest.approx(Y.mean() - slope * X.mean(), rel=1e-10)


@pytest.mark.parametrize(
    ("name", "lr", "clear"),
    [
        ("as_printed", 1e-5, False),
        ("as_printed_small_rate", 1e-9, False),
        ("cleared", 1e-5, True),
    ],
)
def test_descents_are_those_of_the_loop_by_hand(numbers, name, lr, clear):
    losses, way = by_hand(loss, lr, 1000, clear)
    told = numbers["descents"][name]
    best = int(np.argmin(losses))
    assert told["best_step"] == best
    assert told["loss"] == pytest.approx(losses[best], rel=1e-10)
    assert told["last_loss"] == pytest.approx(losses[-1], rel=1e-9)
    assert [told["a"], told["b"]] == pytest.approx(way[best], rel=1e-9)


def test_never_cleared_is_recognised_and_ends_far_above_its_best(numbers):
    told = numbers["descents"]["as_printed"]
    assert told["verdict"] == "uncleared"
    assert told["last_loss"] > 100 * told["loss"]
    # An upright line through the origin has this loss, and towards it the sum runs away.
    assert told["last_loss"] == pytest.approx(np.mean(X**2), rel=0.02)


def test_cleared_finds_the_slope_and_leaves_the_intercept(numbers):
    told = numbers["descents"]["cleared"]
    assert told["verdict"] == "crawling"
    assert told["a"] == pytest.approx(numbers["closed_form"]["a"], rel=0.02)
    assert abs(told["b"]) < 0.05


def test_automatic_steps_reach_the_closed_form(numbers):
    told = numbers["descents"]["automatic"]
    assert told["verdict"] == "converged"
    for name in "ab":
        assert told[name] == pytest.approx(numbers["closed_form"][name], abs=1e-8)


def test_the_condition_number_is_that_of_second_differences(numbers):
    told = numbers["descents"]["cleared"]
    at, h = np.array([told["a"], told["b"]]), 1e-4

    def value(*shift):
        return loss(*torch.from_numpy(at + h * np.array(shift))).item()

    # Along b the loss is a square, so a long step is exact and keeps clear of rounding.
    k = 1e3
    aa = value(1, 0) - 2 * value(0, 0) + value(-1, 0)
    bb = (value(0, k) - 2 * value(0, 0) + value(0, -k)) / k**2
    ab = (value(1, k) - value(1, -k) - value(-1, k) + value(-1, -k)) / (4 * k)
    assert numbers["condition"] == pytest.approx(np.linalg.cond([[aa, ab], [ab, bb]]), rel=1e-3)
    assert numbers["condition_centred"] < 1.01


def test_fits_agree_with_york_and_with_polynomials(numbers):
    best = york(X, Y, 2.0, 2.0)
    told = numbers["line"]
    found = [told[key] for key in ("a", "a_error", "b", "b_error", "chi2")]
    expected = [best.slope, best.se_slope, best.intercept, best.se_intercept, best.chi2]
    assert found == pytest.approx(expected, rel=1e-7)
    (slope, intercept), cov = np.polyfit(X, Y, 1, cov=True)
    told = numbers["ordinary_least_squares"]
    found = [told[key] for key in ("a", "a_error", "b", "b_error")]
    errors = np.sqrt(np.diag(cov))
    assert found == pytest.approx([slope, errors[0], intercept, errors[1]], rel=1e-9)


def test_a_swing_takes_a_little_longer_than_its_curvature_says(numbers):
    losses, _ = by_hand(lambda a, b: loss(a + 2, b), 1e-5, 1000, clear=False)
    inner = np.array(losses[1:-1])
    lowest = np.flatnonzero((inner < losses[:-2]) & (inner < losses[2:]))
    # The slope passes the minimum twice in a swing.
    measured = 2 * np.diff(lowest).mean()
    assert numbers["swing_steps"] == pytest.approx(measured, rel=0.02)


# -- on screen -------------------------------------------------------------------------------------


def test_the_screen_tells_every_chapter_in_order(story):
    titles = [line[3:] for line in story.out.splitlines() if re.match(r"^\d+ {1,2}[A-Z]", line)]
    assert len(titles) == len(CHAPTERS)
    assert max(map(len, story.out.splitlines())) <= 96
    for word in ("never cleared", "Crawling", "condition number", "central differences"):
        assert word in story.out
    assert not re.search(r"\b(nan|inf)\b", story.out)
    assert story.err.startswith("gradfit: wrote")


@pytest.mark.slow
def test_it_does_not_take_long(story):
    assert story.seconds < 20


@pytest.fixture
def short(monkeypatch):
    """Tell the first chapter only."""
    monkeypatch.setattr(demo, "CHAPTERS", CHAPTERS[:1])


def test_quiet_says_nothing_and_json_the_same_numbers_again(cli, tmp_path, short, numbers):
    run = cli("demo", "--quiet", "--out", tmp_path)
    assert (run.code, run.out, run.err) == (0, "", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["points.csv", "story.html", "story.json"]
    run = cli("demo", "--json", "--out", tmp_path)
    # Machine code may have been made meanwhile, whose last bits are its own.
    assert_close(json.loads(run.out), numbers)


def assert_close(found, wanted):
    """Compare what JSON holds, numbers to nine digits."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        found, wanted = list(found.values()), list(wanted.values())
    if isinstance(wanted, list):
        for a, b in zip(found, wanted, strict=True):
            assert_close(a, b)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    else:
        assert found == wanted


def test_the_points_can_be_fitted_as_any_table(cli, story, numbers):
    run = cli("line", story.folder / "points.csv", "--x", "x", "--y", "y", "--sx", "2", "--sy", "2",
              "--json")  # fmt: skip
    assert json.loads(run.out)["params"]["slope"] == pytest.approx(numbers["line"]["a"], rel=1e-12)


# -- the page --------------------------------------------------------------------------------------


def test_the_page_has_every_chapter_and_its_pictures(page):
    assert len(re.findall("<h2>", page)) == len(CHAPTERS)
    targets = set(re.findall(r'href="#(c\d+)"', page))
    assert targets == {f"c{k}" for k in range(1, len(CHAPTERS) + 1)}
    assert targets <= set(re.findall(r'<section id="(\w+)"', page))
    assert page.count("<figure>") == page.count("<figcaption>") == page.count("<svg ") == 8


def test_no_line_of_the_page_ends_inside_a_number(page):
    prose = re.sub(r"<(style|script|pre|code|svg|math)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "1e\u20115" in prose
    assert re.findall(r"\de-\d|\d %", re.sub(r"<[^>]*>", "", prose)) == []


def test_no_mark_of_code_is_left_on_the_page(page):
    shown = re.findall(r"<(p|pre|figcaption|td)>(.*?)</\1>", page, flags=re.DOTALL)
    assert len(shown) > 30
    assert not [text for _, text in shown if "`" in text]


def test_the_page_needs_nothing_from_outside(page):
    without = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?:|//\w|url\((?!#)|@import|<link|<img|<script src", without)


def test_no_number_on_the_page_is_missing(page):
    words = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    assert not re.findall(r"\b(nan|inf|undefined)\b", re.sub(r"<[^>]*>", " ", words), re.I)
    assert not re.findall("<td>(?:None)?</td>(?!<t[dh])", words)


def test_identifiers_differ_and_those_asked_for_exist(page):
    named = re.findall(r'\bid="([^"]+)"', page)
    assert len(named) == len(set(named))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(named)


def test_pictures_take_their_colours_from_the_page(page):
    pictures = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", pictures)
    for name in set(re.findall(r"var\((--\w+)\)", pictures)):
        assert len(re.findall(rf"{name}:", page)) >= 4
