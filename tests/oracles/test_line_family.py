"""Straight lines in the words of each trade, against what the trades have published."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit as gf
from gradfit import lines
from gradfit.errors import InputError
from oracles import refsets

stats = pytest.importorskip("scipy.stats")


def points(name: str):
    """x, y, sx, sy and rho of a straight-line set."""
    p = refsets.load(name)
    k = p.keywords()
    return p, k["x"], k["y"], k.get("sx"), k.get("sy"), k.get("rho")


def named(p):
    """Reference values by slope and intercept: the sets write intercept + slope*x as b1 + b2*x."""
    return {"intercept": p.beta[0], "slope": p.beta[1]}


# -- metrology ------------------------------------------------------------------------------------


def test_clause_6_prints_what_the_standard_does() -> None:
    _, x, y, _, sy, _ = points("iso28037_c6a")
    f = lines.iso28037(x, y, uy=sy)
    assert f.figures["a"] == pytest.approx(28 / 15, rel=1e-12)
    assert f.figures["b"] == pytest.approx(1.757142857142857, rel=1e-12)
    assert (f"{f.figures['u(a)']:.3f}", f"{f.figures['u(b)']:.3f}") == ("0.465", "0.120")
    assert f.figures["cov(a,b)"] == pytest.approx(-0.05, rel=1e-12)
    assert f"{f.figures['chi2']:.3f}" == "1.665"
    assert f.figures["chi2_limit"] == pytest.approx(stats.chi2.ppf(0.95, 4), rel=1e-12)
    assert f.figures["accepted"] == 1
    assert "clause 6" in f.method


def test_clause_11_evaluates_both_ways_as_the_standard_does() -> None:
    _, x, y, _, sy, _ = points("iso28037_c6a")
    f = lines.iso28037(x, y, uy=sy)
    back = f.invert(10.5, 0.5)
    assert f"{back.x:.3f}" == "4.913"
    assert f"{back.stderr:.3f}" == "0.322"
    value, error = f.evaluate(3.5, 0.2)
    assert f"{value:.3f}" == "8.017"
    assert f"{error:.3f}" == "0.406"


def test_clause_7_prints_what_the_standard_does() -> None:
    p, x, y, sx, sy, _ = points("iso28037_c7")
    f = lines.iso28037(x, y, sx, sy)
    assert f.figures["a"] == pytest.approx(p.beta[0], rel=1e-10)
    assert f.figures["b"] == pytest.approx(p.beta[1], rel=1e-10)
    assert [f.figures["u(a)"], f.figures["u(b)"]] == pytest.approx(p.expected("sd_gn"), rel=1e-9)
    assert (f"{f.figures['u(a)']:.4f}", f"{f.figures['u(b)']:.4f}") == ("0.4764", "0.1355")
    assert f"{f.figures['cov(a,b)']:.4f}" == "-0.0577"
    assert f.figures["chi2"] == pytest.approx(2.742676790, abs=5e-10)


def test_clause_8_is_york_with_correlations() -> None:
    p, x, y, sx, sy, rho = points("isochron_kca1")
    f = lines.iso28037(x, y, sx, sy, rho * sx * sy)
    assert f.figures["a"] == pytest.approx(p.beta[0], rel=1e-9)
    assert f.figures["b"] == pytest.approx(p.beta[1], rel=1e-9)
    assert "clause 8" in f.method


def test_clause_9_takes_the_whole_covariance_of_y() -> None:
    p = refsets.load("iso28037_c9")
    x, y, U = p.x[0], p.y[0], p.between["y"]
    f = lines.iso28037(x, y, U=U)
    G = np.linalg.inv(U)
    A = np.stack([np.ones(len(x)), x], 1)
    cov = np.linalg.inv(A.T @ G @ A)
    assert [f.figures["a"], f.figures["b"]] == pytest.approx(p.beta, rel=1e-10)
    assert f.figures["u(a)"] == pytest.approx(math.sqrt(cov[0, 0]), rel=1e-9)
    assert f.figures["u(b)"] == pytest.approx(math.sqrt(cov[1, 1]), rel=1e-9)
    assert "clause 9" in f.method


def test_clause_10_with_independent_errors_is_clause_7() -> None:
    p, x, y, sx, sy, _ = points("iso28037_c7")
    f = lines.iso28037(x, y, U=np.diag(np.concatenate([sx * np.ones(6), sy]) ** 2))
    assert [f.figures["a"], f.figures["b"]] == pytest.approx(p.beta, rel=1e-9)
    assert f.figures["u(b)"] == pytest.approx(p.expected("sd_gn")[1], rel=1e-9)


def test_a_line_that_does_not_fit_is_rejected() -> None:
    f = lines.iso28037([1, 2, 3, 4, 5], [1.0, 4.0, 9.0, 16.0, 25.0], uy=0.1)
    assert f.figures["accepted"] == 0
    assert "REJECTED" in f.summary()


# -- geochronology --------------------------------------------------------------------------------


def test_york_prints_what_york_published() -> None:
    _, x, y, sx, sy, _ = points("pearson_york")
    f = lines.york(x, y, sx, sy)
    assert f.params["intercept"] == pytest.approx(5.479910224, abs=5e-10)
    assert f.params["slope"] == pytest.approx(-0.480533407, abs=5e-10)
    assert f.stderr["intercept"] == pytest.approx(0.294970735, abs=1e-9)
    assert f.stderr["slope"] == pytest.approx(0.057985009, abs=5e-10)
    assert f.figures["mswd"] == pytest.approx(1.483294, abs=5e-7)


ISOCHRONS = [
    "isochron_kca1",
    "isochron_rbsr1",
    "isochron_regression",
    "isochron_smnd1",
    "isochron_york_rho08",
    "mahon96_rho0",
]


@pytest.mark.parametrize("name", ISOCHRONS)
def test_model_1_is_the_reference(name: str) -> None:
    p, x, y, sx, sy, rho = points(name)
    f = lines.isochron(x, y, sx, sy, rho)
    assert f.figures["a"] == pytest.approx(p.beta[0], rel=1e-9)
    assert f.figures["b"] == pytest.approx(p.beta[1], rel=1e-9)
    assert [f.figures["s[a]"], f.figures["s[b]"]] == pytest.approx(p.expected("sd_gn"), rel=1e-7)
    assert f.figures["mswd"] == pytest.approx(p.chi2 / (len(x) - 2), rel=1e-10)
    assert f.figures["p"] == pytest.approx(stats.chi2.sf(p.chi2, len(x) - 2), rel=1e-9)
    z, t = stats.norm.ppf(0.975), stats.t.ppf(0.975, len(x) - 2)
    assert f.figures["ci[b]"] == pytest.approx(z * f.figures["s[b]"], rel=1e-12)
    if f.figures["p"] < 0.05:
        over = t * math.sqrt(f.figures["mswd"]) * f.figures["s[b]"]
        assert f.figures["ci_over[b]"] == pytest.approx(over, rel=1e-10)
    else:
        assert math.isnan(f.figures["ci_over[b]"])


def test_an_anchored_isochron_keeps_its_anchor_and_minimises_the_rest() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    _, x, y, sx, sy, rho = points("isochron_regression")
    f = lines.isochron(x, y, sx, sy, rho, anchor={"intercept": 300.0})

    def chi2(b: float) -> float:
        S = sy**2 + b**2 * sx**2 - 2 * b * rho * sx * sy
        return float((((y - 300 - b * x) ** 2) / S).sum())

    best = optimize.minimize_scalar(chi2, bracket=(4.4, 4.6), tol=1e-14)
    assert f.figures["a"] == 300.0
    assert f.figures["s[a]"] == 0.0
    assert f.figures["b"] == pytest.approx(best.x, rel=1e-8)
    assert f.figures["df"] == len(x) - 1


def test_model_2_is_the_principal_axis() -> None:
    _, x, y, sx, sy, rho = points("isochron_york_rho08")
    f = lines.isochron(x, y, sx, sy, rho, model=2)
    axis = np.linalg.eigh(np.cov(x, y))[1][:, -1]
    assert f.figures["b"] == pytest.approx(axis[1] / axis[0], rel=1e-9)


@pytest.mark.parametrize("dispersion", ["intercept", "slope"])
def test_model_3_maximises_its_likelihood(dispersion: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    _, x, y, sx, sy, rho = points("isochron_regression")
    f = lines.isochron(x, y, sx, sy, rho, model=3, dispersion=dispersion)
    factor = x**2 if dispersion == "slope" else np.ones_like(x)

    def negative(t) -> float:
        S = sy**2 + t[1] ** 2 * sx**2 - 2 * t[1] * rho * sx * sy + t[2] ** 2 * factor
        return float(0.5 * (np.log(S) + (y - t[0] - t[1] * x) ** 2 / S).sum())

    found = np.array([f.figures["a"], f.figures["b"], f.figures["w"]])
    tight = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000}
    best = optimize.minimize(negative, found * 1.001, method="Nelder-Mead", options=tight)
    assert negative(found) <= best.fun + 1e-10
    assert found == pytest.approx(best.x, rel=1e-4)
    # The dispersion takes up what the errors leave: the mean square falls to about 1.
    assert 0.5 < f.mswd < 2.5 < gf.line(x, y, sx, sy, rho).mswd


def test_omitted_points_do_not_count() -> None:
    _, x, y, sx, sy, _ = points("pearson_york")
    omit = np.arange(10) == 3
    f = lines.isochron(x, y, sx, sy, omit=omit)
    rest = lines.isochron(x[~omit], y[~omit], sx[~omit], sy[~omit])
    assert f.params == rest.params
    assert f.left_out.tolist() == [[x[3], y[3]]]


# -- clinical chemistry ---------------------------------------------------------------------------


@pytest.mark.parametrize("td", ["15", "41", "75"])
@pytest.mark.parametrize("ratio", ["1", "121"])
def test_deming_is_that_of_mcr(td: str, ratio: str) -> None:
    p, x, y, sx, sy, _ = points(f"mcr_td{td}_ratio{ratio}")
    lam = 1.0 if sx is None else float(np.mean((sy / sx) ** 2))
    f = lines.deming(x, y, ratio=lam)
    assert f.params["intercept"] == pytest.approx(p.beta[0], rel=1e-11)
    assert f.params["slope"] == pytest.approx(p.beta[1], rel=1e-11)


def test_deming_of_creatinine_is_that_of_mcr() -> None:
    _, x, y, *_ = points("creatinine_deming")
    f = lines.deming(x, y)
    assert f"{f.params['intercept']:.8f}" == "-0.05891341"
    assert f"{f.params['slope']:.6f}" == "1.054539"
    n = len(x)
    lot = np.array(
        [list(lines.orthogonal(np.delete(x, i), np.delete(y, i)).params.values()) for i in range(n)]
    )
    se = np.sqrt((n - 1) / n * ((lot - lot.mean(0)) ** 2).sum(0))
    assert [f.stderr["slope"], f.stderr["intercept"]] == pytest.approx(se, rel=1e-6)
    t = stats.t.ppf(0.975, n - 2)
    assert f.figures["slope_high"] == pytest.approx(f.params["slope"] + t * se[0], rel=1e-8)


def test_systematic_difference_at_a_decision_level() -> None:
    _, x, y, *_ = points("creatinine_deming")
    f = lines.deming(x, y, decision_levels=[1.5])
    expected = f.params["intercept"] + (f.params["slope"] - 1) * 1.5
    assert f.figures["difference[1.5]"] == pytest.approx(expected, rel=1e-12)
    J = np.array([1.5, 1.0])
    half = stats.t.ppf(0.975, len(x) - 2) * math.sqrt(J @ f.cov @ J)
    assert f.figures["difference_low[1.5]"] == pytest.approx(expected - half, rel=1e-9)


def naive_passing_bablok(x, y):
    """The paper's own recipe, pair by pair."""
    slopes = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            dx, dy = x[j] - x[i], y[j] - y[i]
            if dx == dy == 0:
                continue
            s = math.copysign(math.inf, dy) if dx == 0 else dy / dx
            if s != -1:
                slopes.append(s)
    slopes.sort()
    n, k = len(slopes), sum(s < -1 for s in slopes)
    b = (
        slopes[(n + 1) // 2 + k - 1]
        if n % 2
        else 0.5 * (slopes[n // 2 + k - 1] + slopes[n // 2 + k])
    )
    return b, float(np.median(np.asarray(y) - b * np.asarray(x)))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(6, 25))
def test_passing_bablok_follows_the_paper_and_turns_round_with_its_axes(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    t = rng.uniform(1, 10, n)
    x, y = t + 0.5 * rng.standard_normal(n), 1.1 * t + 0.3 + 0.5 * rng.standard_normal(n)
    f = lines.passing_bablok(x, y, n_resamples=100)
    assert list(f.params.values()) == pytest.approx(naive_passing_bablok(x, y), rel=1e-13)
    if n * (n - 1) // 2 % 2:
        back = lines.passing_bablok(y, x, n_resamples=100)
        assert back.params["slope"] == pytest.approx(1 / f.params["slope"], rel=1e-12)
    assert f.figures["slope_low"] <= f.params["slope"] <= f.figures["slope_high"]
    assert f.figures["slope_bca_low"] <= f.figures["slope_bca_high"]


def test_bca_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(5)
    t = rng.uniform(1, 10, 30)
    x, y = t + 0.4 * rng.standard_normal(30), 1.05 * t + 0.4 * rng.standard_normal(30)
    f = lines.passing_bablok(x, y, n_resamples=4000, seed=2)
    peer = stats.bootstrap(
        (x, y), lambda a, b: naive_passing_bablok(a, b)[0], paired=True, vectorized=False,
        n_resamples=1500, method="BCa", rng=3,
    ).confidence_interval  # fmt: skip
    width = peer.high - peer.low
    assert f.figures["slope_bca_low"] == pytest.approx(peer.low, abs=0.15 * width)
    assert f.figures["slope_bca_high"] == pytest.approx(peer.high, abs=0.15 * width)


def test_a_bent_relation_is_called_not_linear() -> None:
    x = np.linspace(1, 10, 60)
    rng = np.random.default_rng(0)
    straight = lines.passing_bablok(x, 1.1 * x + 0.2 * rng.standard_normal(60), n_resamples=100)
    bent = lines.passing_bablok(x, 0.2 * x**2 + 0.2 * rng.standard_normal(60), n_resamples=100)
    assert straight.figures["linearity_p"] > 0.05 > bent.figures["linearity_p"]
    assert "NOT LINEAR" in bent.summary()


# -- textbooks ------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(4, 40))
def test_textbook_lines_are_those_of_scipy(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, n)
    y = 0.7 * x - 1 + rng.standard_normal(n)
    peer, f = stats.linregress(x, y), lines.ols(x, y)
    assert f.params["slope"] == pytest.approx(peer.slope, rel=1e-9)
    assert f.params["intercept"] == pytest.approx(peer.intercept, rel=1e-9, abs=1e-9)
    assert f.stderr["slope"] == pytest.approx(peer.stderr, rel=1e-9)
    assert f.stderr["intercept"] == pytest.approx(peer.intercept_stderr, rel=1e-9)
    assert lines.inverse_ols(x, y).params["slope"] == pytest.approx(
        1 / stats.linregress(y, x).slope, rel=1e-8
    )
    sy = rng.uniform(0.5, 2, n)
    weighted, cov = np.polyfit(x, y, 1, w=1 / sy, cov="unscaled")
    g = lines.wls(x, y, sy)
    assert [g.params["slope"], g.params["intercept"]] == pytest.approx(weighted, rel=1e-8, abs=1e-9)
    assert np.asarray(g.cov) == pytest.approx(cov, rel=1e-8)
    theil = stats.theilslopes(y, x, 0.95, method="joint")
    h = lines.theil_sen(x, y)
    assert h.params["slope"] == pytest.approx(theil.slope, rel=1e-13)
    assert h.params["intercept"] == pytest.approx(theil.intercept, rel=1e-12, abs=1e-12)
    assert h.figures["slope_low"] == pytest.approx(theil.low_slope, rel=1e-13)
    assert h.figures["slope_high"] == pytest.approx(theil.high_slope, rel=1e-13)


# -- scatter --------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["y", "perpendicular"])
@pytest.mark.parametrize("prior", ["normal", "flat"])
def test_scatter_maximises_the_likelihood_of_scipy(direction: str, prior: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    _, x, y, sx, sy, _ = points("hyperfit_tfr")
    f = lines.scatter(x, y, sx, sy, direction=direction, prior=prior)

    def negative(t) -> float:
        b, a, s = t[:3]
        if prior == "flat":
            own = s * s * (1 + b * b) if direction == "perpendicular" else s * s
            S = sy**2 + b * b * sx**2 + own
            return float(
                0.5 * (np.log(2 * np.pi * S / (1 + b * b)) + (y - a - b * x) ** 2 / S).sum()
            )
        d = (
            np.array([-b, 1.0]) / math.hypot(1, b)
            if direction == "perpendicular"
            else np.array([0, 1.0])
        )
        total = 0.0
        for xi, yi, ui, vi in zip(x, y, sx, sy, strict=True):
            V = (
                t[4] ** 2 * np.outer([1, b], [1, b])
                + np.diag([ui**2, vi**2])
                + s**2 * np.outer(d, d)
            )
            total -= stats.multivariate_normal.logpdf([xi, yi], [t[3], a + b * t[3]], V)
        return float(total)

    found = list(f.params.values())
    if prior == "normal":
        found += [f.figures["mean_x"], f.figures["width_x"]]
    assert -f.figures["log_likelihood"] == pytest.approx(negative(found), rel=1e-9)
    tight = {"xatol": 1e-7, "fatol": 1e-9, "maxfev": 600, "maxiter": 600}
    start = np.array(found) * 1.0005
    best = optimize.minimize(negative, start, method="Nelder-Mead", options=tight)
    assert negative(found) <= best.fun + 1e-7


def test_exact_points_may_be_told_by_zeros() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 2, 40)
    y = 1 + 0.5 * x + 0.3 * rng.standard_normal(40)
    f = lines.scatter(x, y, np.zeros(40), np.zeros(40))
    slope = stats.linregress(x, y).slope
    assert f.params["slope"] == pytest.approx(slope, rel=1e-9)
    left = y - f.params["intercept"] - f.params["slope"] * x
    assert f.params["scatter"] == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-8)


def test_marginal_regression_is_unbiased_where_plain_odr_is_badly_wrong() -> None:
    rng = np.random.default_rng(11)
    n = 4000
    t = rng.normal(0, 2, n)
    x = t + rng.normal(0, 1, n)
    y = t + rng.normal(0, 1.5, n) + rng.normal(0, 1, n)
    f = lines.scatter(x, y, 1.0, 1.0)
    assert abs(f.params["slope"] - 1) < 2 * f.stderr["slope"]
    assert abs(f.params["scatter"] - 1.5) < 2 * f.stderr["scatter"]
    assert gf.line(x, y, 1.0, 1.0).params["slope"] == pytest.approx(1.34, abs=0.06)


# -- what is wrong, and how it looks --------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: lines.deming([1, 2, 3, 4], [1, 2, 3, 4], ratio=-1), "`ratio` must be a positive"),
        (lambda: lines.deming([1, 2, 3], [1, 2, 3]), "3 points are too few"),
        (lambda: lines.theil_sen([1, 2, 3], [1, 2]), "`x` has 3 values and `y` has 2"),
        (lambda: lines.theil_sen([1, np.nan, 3], [1, 2, 3]), "`x` must be finite"),
        (lambda: lines.passing_bablok([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]), "fall against each other"),
        (lambda: lines.isochron([1, 2, 3], [1, 2, 3], 1, 1, model=4), "`model` must be 1, 2 or 3"),
        (
            lambda: lines.isochron([1, 2, 3], [1, 2, 3], 1, 1, anchor={"a": 1}),
            "`anchor` must be one",
        ),
        (lambda: lines.isochron([1, 2, 3], [1, 2, 3], 1, 1, omit=[True]), "`omit` must have one"),
        (lambda: lines.iso28037([1, 2, 3], [1, 2, 3]), "`uy` is needed"),
        (lambda: lines.iso28037([1, 2, 3], [1, 2, 3], U=np.eye(4)), r"`U` must be \(3, 3\)"),
        (
            lambda: lines.scatter([1, 2, 3, 4, 5], [1, 2, 3, 4, 6], direction="z"),
            "`direction` must",
        ),
    ],
)
def test_wrong_input_is_told_in_one_line(call, match: str) -> None:
    with pytest.raises(InputError, match=match):
        call()


def still(text: str) -> str:
    """Leave out what differs from run to run."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("backend"))


def test_summaries_read_as_each_trade_writes(golden) -> None:
    _, x, y, sx, sy, rho = points("isochron_regression")
    golden("line_isochron.txt", still(lines.isochron(x, y, sx, sy, rho).summary()))
    _, x, y, sx, sy, _ = points("iso28037_c7")
    golden("line_iso28037.txt", still(lines.iso28037(x, y, sx, sy).summary()))
    _, x, y, *_ = points("creatinine_deming")
    golden("line_deming.txt", still(lines.deming(x, y, decision_levels=[1.5]).summary()))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_are_drawn_in_both_themes(theme: str) -> None:
    _, x, y, sx, sy, rho = points("isochron_regression")
    figure = lines.isochron(x, y, sx, sy, rho).plot(theme=theme)
    assert len(figure.axes) == 2
    _, x, y, *_ = points("creatinine_deming")
    figure = lines.deming(x, y).plot(theme=theme)
    assert figure.axes[1].get_ylabel() == "difference"


def drawn(figure) -> str:
    """What a picture shows, in words: panels, their labels, and how many things of each kind."""
    figure.canvas.draw()
    rows = []
    for k, ax in enumerate(figure.axes):
        low, high = ax.get_xlim()
        labels = f"x {ax.get_xlabel()!r} from {low:.3g} to {high:.3g}, y {ax.get_ylabel()!r}"
        rows += [
            f"panel {k}: {labels}",
            f"  {len(ax.lines)} lines, {len(ax.patches)} patches, "
            f"{len(ax.collections)} collections",
            *(f"  text {t.get_text()!r}" for t in [ax.title, *ax.texts] if t.get_text()),
        ]
        legend = ax.get_legend()
        rows += [f"  legend {t.get_text()!r}" for t in legend.get_texts()] if legend else []
    return "\n".join(rows)


def test_pictures_show_what_each_trade_looks_for(golden) -> None:
    _, x, y, sx, sy, rho = points("isochron_regression")
    isochron = lines.isochron(x, y, sx, sy, rho, omit=np.arange(6) == 2)
    golden("line_isochron_picture.txt", drawn(isochron.plot()))
    _, x, y, *_ = points("creatinine_deming")
    golden("line_deming_picture.txt", drawn(lines.deming(x, y).plot()))
