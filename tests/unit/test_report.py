"""The page about a fit stands alone, escapes what users write, and says what the summary says."""

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import made
import numpy as np
import pytest

from gradfit._fit import fit
from gradfit._views.html import correlation_table, fit_fragment, table_fragment
from gradfit._views.words import assumptions

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """Reads a page, and complains about tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def test_page_says_what_the_summary_says():
    result = made.decay()
    words = Page(result.report()).words
    for said in (
        "signal [mV] = a*exp(-b*x) + c",
        "30 points, errors in x and y converged",
        "a 3.56 ± 0.18 5.0 %",
        "p-value 0.448",
        "degrees of freedom 27",
        "sigmas taken as given, not scaled by the scatter",
        "expected information (Gauss-Newton)",
        "runs of one sign",
        "converged: the gradient vanished",
        "The model is right: a point lies off the curve by its errors and by nothing else.",
    ):
        assert said in words, said
    low, high = result.interval()["a"]
    assert f"{low:.3g} to {high:.3g}" in words
    assert repr(result.params["b"]) in words


def test_a_bias_stands_beside_its_interval_and_not_in_its_place():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 6, 20_000))
    y = 4 * np.exp(-0.5 * x) + 1 + 0.05 * rng.standard_normal(len(x))
    result = fit("a*exp(-b*x) + c", x, y, sx=0.1, sy=0.1, start={"a": 4, "b": 0.5, "c": 1})
    low, high = result.interval()["a"]
    assert abs(result.bias["a"]) > 0.25 * result.stderr["a"]
    assert f"{low:.4f} to {high:.4f} bias" in Page(result.report()).words


@pytest.fixture(scope="module")
def york():
    return made.york().report()


def test_both_ends_of_an_interval_are_told_to_the_same_place(york):
    """York's line through Pearson's points, 5.4799 ± 0.2947 and -0.4805 ± 0.0580."""
    words = Page(york).words
    assert "4.90 to 6.06" in words
    assert "-0.594 to -0.367" in words


def test_page_needs_nothing_from_elsewhere(york):
    page = Page(york)
    links = [value for _, name, value in page.attributes if name in ("src", "href", "srcset")]
    assert len(links) == 2
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not [tag for tag, *_ in page.attributes if tag in ("script", "link", "iframe")]


def test_page_holds_a_picture_for_each_theme(york):
    pictures = [base64.b64decode(each) for each in re.findall(r"base64,([\w+/=]+)", york)]
    dark, light = (ET.fromstring(picture) for picture in pictures)
    assert dark.tag == light.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"#11161d" in pictures[0]
    assert b"#ffffff" in pictures[1]
    assert 'media="screen and (prefers-color-scheme: dark)"' in york


def test_page_is_written_where_asked(tmp_path):
    text = made.york().report(tmp_path / "fit.html")
    assert (tmp_path / "fit.html").read_text(encoding="utf-8") == text


def test_what_users_write_cannot_break_the_page():
    data = {"<script>x</script>": made.PEARSON_X, '"y" & <b>': made.PEARSON_Y}
    x, y = data
    result = fit("a + b*x", data=data, x=x, y=y, sy=0.3, start={"a": 5, "b": 0})
    for text in (result.report(), result._repr_html_()):
        assert "<script>" not in text
        assert '"y" & <b>' not in text
        assert '"y" & <b> = a + b*x' in Page(text).words


def test_warnings_and_failures_stand_above_the_picture():
    y = made.PEARSON_Y.copy()
    y[4] = 9.0
    text = fit("a + b*x", made.PEARSON_X, y, sy=0.2, start={"a": 5, "b": 0}).report()
    assert text.index("scatter more than their sigmas allow") < text.index("<figure>")
    failed = made.failed().report()
    assert failed.index("failed: MAX_STEPS") < failed.index("stopped at max_steps")
    assert failed.index("stopped at max_steps") < failed.index("<figure>")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sy": 0.2, "loss": "huber"}, "count less than their errors say (huber loss, from"),
        ({"sy": 0.2, "fixed": {"a": 5.5}}, "a held as given, without error"),
        ({}, "the result depends on the units in which x and y are written"),
        ({"sy": 0.2, "absolute_sigma": False}, "sigmas taken as relative, scaled by the scatter"),
        ({"sy": 0.2, "cov_type": "propagated"}, "carried through the fit, to first order"),
        ({"sx": 0.1, "sy": 0.2, "rho": 0.5}, "errors in x and y, correlated"),
        ({"sx": 0.1}, "errors in x only"),
    ],
)
def test_assumptions_are_told(options, said):
    start = {"a": 5, "b": -0.5}
    start = {n: v for n, v in start.items() if n not in options.get("fixed", {})}
    result = fit("a + b*x", made.PEARSON_X, made.PEARSON_Y, start=start, **options)
    assert said in " ".join(assumptions(result))


def test_correlations_are_a_matrix_and_of_many_parameters_the_strongest():
    assert correlation_table(made.decay()).count('class="same"') == 3
    x = np.linspace(-1, 1, 50)
    names = "abcdfgh"
    formula = " + ".join(f"{n}*x**{k}" for k, n in enumerate(names))
    result = fit(formula, x, np.cos(2 * x), sy=0.02, start=dict.fromkeys(names, 0.1))
    text = correlation_table(result)
    assert "strongest correlations" in text
    assert text.count("<tr>") == 7


def test_notebooks_show_a_fit_and_a_table():
    result, many = made.decay(), made.runs(8)
    assert result._repr_html_() == fit_fragment(result)
    words = Page(result._repr_html_()).words
    assert "a 3.56 ± 0.18 5.0 %" in words
    assert "MSWD 1.011" in words
    assert many._repr_html_() == table_fragment(many)
    assert "BAD_DATA" in Page(many._repr_html_()).words
    assert "Failed: MAX_STEPS" in Page(made.failed()._repr_html_()).words


def test_page_of_a_fit_without_numbers_can_be_written():
    words = Page(made.runs(8)[2].report()).words
    assert "failed: BAD_DATA" in words
    assert "nan" not in words.replace("nan_policy", "")
    assert "Parameters" not in words
