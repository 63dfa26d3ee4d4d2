"""Straight lines whose x is uncertain: what the default promises too much, and that it is said."""

import csv
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradfit as gf

ROOT = Path(__file__).parents[2]
SAID = 'cov_type="propagated" is the better choice'


def draw(reliability: float, n: int, sets: int = 1, seed: int = 1) -> tuple[Any, Any, float]:
    rng = np.random.default_rng(seed)
    true = rng.standard_normal((sets, n))
    error = ((1 - reliability) / reliability) ** 0.5
    x, y = (true + error * rng.standard_normal((sets, n)) for _ in range(2))
    return x, y, error


def line(x: Any, y: Any, error: float, **options: Any) -> Any:
    return gf.fit("a + b*x", x, y, sx=error, sy=error, start={"a": 0, "b": 1}, **options)


def in_a_row(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_carried_is_the_scatter_of_slopes_over_the_default(backend: str) -> None:
    x, y, error = draw(0.6, 100, 1500)
    groups = np.repeat(np.arange(1500), 100)
    many = line(x.ravel(), y.ravel(), error, groups=groups, backend=backend)
    # Of slopes near 1 the angle scatters evenly.
    scatter = 2 * np.arctan(many.params["b"]).std()
    told = np.median(many.stderr["b"])
    found = np.median([many[k].carried["b"] for k in range(20)])
    assert scatter / told == pytest.approx(found, rel=0.06)
    assert found > 1.2


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_carried_is_propagated_over_expected(backend: str) -> None:
    x, y, error = draw(0.6, 50)
    plain = line(x[0], y[0], error, backend=backend)
    better = line(x[0], y[0], error, cov_type="propagated", backend=backend)
    for name, ratio in plain.carried.items():
        assert ratio == pytest.approx(better.stderr[name] / plain.stderr[name], rel=1e-7)


def test_summary_report_and_intervals_name_the_better_choice() -> None:
    x, y, error = draw(0.6, 50)
    fit = line(x[0], y[0], error)
    assert SAID in in_a_row(fit.summary())
    assert f"{fit.carried['b']:.2f} times" in in_a_row(fit.summary())
    assert "is the better choice" in in_a_row(fit.report())
    with pytest.warns(gf.errors.CoverageWarning, match="better choice"):
        fit.interval()
    with pytest.warns(gf.errors.CoverageWarning, match="better choice"):
        gf.line(x[0], y[0], error, error).interval()
    many = line(np.tile(x[0], 2), np.tile(y[0], 2), error, groups=np.repeat([0, 1], 50))
    assert SAID in in_a_row(many.summary())
    with pytest.warns(gf.errors.CoverageWarning, match="in 2 of 2 fits"):
        many.interval()


@pytest.mark.parametrize("kind", ["propagated", "observed", "sandwich"])
def test_nothing_is_said_of_other_kinds(kind: str) -> None:
    x, y, error = draw(0.6, 50)
    fit = line(x[0], y[0], error, cov_type=kind)
    assert SAID not in in_a_row(fit.summary())
    fit.interval()


def test_nothing_is_said_where_errors_of_x_are_small_or_none() -> None:
    x, y, error = draw(0.99, 50)
    for fit in (line(x[0], y[0], error), gf.fit("a + b*x", x[0], y[0], sy=error)):
        assert SAID not in fit.summary()
        fit.interval()


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_the_ratio_does_not_depend_on_units(scale: float) -> None:
    x, y, error = draw(0.6, 50)
    wanted, got = line(x[0], y[0], error), line(scale * x[0], scale * y[0], scale * error)
    assert got.carried["b"] == pytest.approx(wanted.carried["b"], rel=1e-6)


def cells() -> list[dict[str, str]]:
    with (ROOT / "docs" / "data" / "reliability.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["cov_type"] == "expected"]


def test_wherever_the_default_is_two_points_short_most_summaries_say_so() -> None:
    for row in cells():
        share, told = int(row["inside"]) / int(row["trials"]), int(row["told"])
        wide = 2 * (share * (1 - share) / int(row["trials"])) ** 0.5
        if share + wide < 0.93:
            assert 2 * told > int(row["looked"]), row
        if share < 0.90:
            assert told >= 0.9 * int(row["looked"]), row


def test_the_committed_table_is_what_its_script_makes() -> None:
    path = ROOT / "benchmarks" / "reliability.py"
    spec = importlib.util.spec_from_file_location("reliability", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {row[2]: row for row in script.cell(0.6, 50, 400)}
    committed = next(r for r in cells() if (r["reliability"], r["n"]) == ("0.6", "50"))
    share = made["expected"][3] / made["expected"][4]
    assert share == pytest.approx(int(committed["inside"]) / int(committed["trials"]), abs=0.05)
    assert made["propagated"][3] / made["propagated"][4] > 0.93
    assert made["expected"][5] >= 18
