"""What a fit says about whether its sigmas are right: only where it can tell, and by both tails."""

import json
import math

import numpy as np
import pytest

import gradfit as gf
from gradfit import cli
from gradfit._views.residuals import checks

X = np.arange(10.0)
Y = 1000 * (3 + 2 * X + np.cos(5 * X))
REMARKS = "sigmas allow", "sigmas are too small", "sigmas look too"
RELATIVE = {
    "lines.ols": lambda: gf.lines.ols(X, Y),
    "lines.inverse_ols": lambda: gf.lines.inverse_ols(X, Y),
    "lines.orthogonal": lambda: gf.lines.orthogonal(X, Y),
    "lines.wls": lambda: gf.lines.wls(X, Y, 1.0, absolute_sigma=False),
    "lines.deming": lambda: gf.lines.deming(X, Y, ratio=2.0),
    "lines.theil_sen": lambda: gf.lines.theil_sen(X, Y),
    "line": lambda: gf.line(X, Y, 0.1, 0.1, absolute_sigma=False),
    "ols by fit": lambda: gf.fit("a+b*x", X, Y, sx=0, sy=1, absolute_sigma=False, start=[0, 0]),
    "native": lambda: gf.fit(
        "a+b*x", X, Y, sy=1, absolute_sigma=False, start=[0, 0], backend="native"
    ),
    "sandwich": lambda: gf.fit(
        "a+b*x", X, Y, sy=1, absolute_sigma=False, cov_type="sandwich", start=[0, 0]
    ),
    "prepare": lambda: gf.prepare("a+b*x", start=[0, 0], sy=1, absolute_sigma=False)(X, Y).full,
    "groups": lambda: gf.fit(
        "a+b*x", X, Y, sy=1, absolute_sigma=False, start=[0, 0], groups=[0] * 10
    )[0],
    "shapes.line2d": lambda: gf.shapes.line2d(X, Y, 1.0, 1.0, absolute_sigma=False),
}


@pytest.mark.parametrize("door", RELATIVE)
def test_relative_sigmas_have_no_p_value_and_no_remark(door):
    fit = RELATIVE[door]()
    assert math.isnan(fit.p_value)
    for text in (fit.summary(), fit._repr_html_(), fit.report()):
        assert not any(remark in text for remark in REMARKS)
    assert json.loads(fit.to_json())["p_value"] is None


def test_a_table_of_relative_fits_has_no_p_values():
    many = gf.fit("a+b*x", X, Y, sy=1, absolute_sigma=False, start=[0, 0], groups=[0, 1] * 5)
    assert np.isnan(many.p_value).all()
    assert "< 1e-300" not in many.summary()
    assert json.loads(many.to_json())["p_value"] == [None, None]


@pytest.mark.parametrize("command", [["line"], ["fit", "--model", "a+b*x"]])
def test_relative_on_the_command_line_says_nothing_of_sigmas(command, tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text("x,y\n" + "\n".join(f"{a},{b}" for a, b in zip(X, Y, strict=True)))
    given = ["--x", "x", "--y", "y", "--sy", "1"]
    assert cli.main([command[0], str(path), *command[1:], *given]) == 0
    assert "sigmas are too small" in " ".join(capsys.readouterr().out.split())
    assert cli.main([command[0], str(path), *command[1:], *given, "--relative"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "p-value -" in told
    assert not any(remark in told for remark in REMARKS)


@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy", "tukey"])
@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_sum_of_robust_losses_has_no_p_value(loss, backend):
    rng = np.random.default_rng(1)
    x = np.linspace(0, 10, 200)
    y = 1 + 2 * x + 0.1 * rng.standard_normal(200)
    fit = gf.fit("a+b*x", x, y, sy=0.1, loss=loss, backend=backend, start={"a": 1, "b": 2})
    assert math.isnan(fit.p_value)
    assert not any(remark in fit.summary() for remark in REMARKS)


@pytest.mark.parametrize("loss", ["linear", "huber", "soft_l1", "cauchy", "tukey"])
def test_outliers_lie_far_off_in_sigmas_whatever_the_loss(loss):
    rng = np.random.default_rng(1)
    x = np.linspace(0, 10, 200)
    y = 1 + 2 * x + 0.1 * rng.standard_normal(200)
    fit = gf.fit("a+b*x", x, y, sy=0.1, loss=loss, start={"a": 1, "b": 2})
    assert not fit.outliers.size
    y[[20, 70]] += 1.0, -2.0
    fit = gf.fit("a+b*x", x, y, sy=0.1, loss=loss, start={"a": 1, "b": 2})
    assert fit.outliers.tolist() == [70, 20]
    assert "points [70] and [20] lie farther from the curve" in fit.summary()


@pytest.mark.parametrize(
    ("scale", "fine", "told"),
    [(1.0, True, "as expected"), (8.0, False, "beyond"), (0.05, False, "closer than expected")],
)
def test_the_largest_residual_is_judged_by_both_tails(scale, fine, told):
    x = np.linspace(0, 10, 40)
    y = 1 + 2 * x + scale * 0.1 * np.random.default_rng(4).standard_normal(40)
    found = checks(gf.fit("a+b*x", x, y, sy=0.1, start={"a": 1, "b": 2}))[0]
    assert found.fine is fine
    assert told in found.verdict


@pytest.mark.parametrize("sigmas", [{"sy": 0.1}, {"sy": 1.0, "absolute_sigma": False}])
def test_residuals_of_zero_are_not_as_expected(sigmas):
    x = np.arange(8.0)
    fit = gf.fit("a+b*x", x, 1 + 2 * x, start={"a": 1, "b": 2}, **sigmas)
    found = checks(fit)[0]
    assert not found.fine
    assert "as expected" not in found.verdict


def test_few_degrees_of_freedom_do_not_make_residuals_look_too_small():
    """Of 400 fits of normal errors by eight parameters about one in a hundred may be flagged."""
    rng = np.random.default_rng(2)
    x = np.tile(np.linspace(-1, 1, 11), 400)
    y = 0.1 * rng.standard_normal(x.size)
    formula = "+".join(f"{name}*x**{k}" for k, name in enumerate("abcdfghk"))
    for sigmas in ({"sy": 0.1}, {"sy": 1.0, "absolute_sigma": False}):
        many = gf.fit(formula, x, y, groups=np.repeat(np.arange(400), 11), start=[0] * 8, **sigmas)
        close = sum("closer than" in checks(many[k])[0].verdict for k in range(400))
        assert close <= 12
