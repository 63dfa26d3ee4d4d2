"""The committed table of coverage: reproduced by its seeds, and as good as the docs say."""

import csv
import importlib.util
import math
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("coverage", ROOT / "benchmarks" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(script):
    with script.TABLE.open() as file:
        return list(csv.DictReader(file))


def share(rows):
    inside = sum(int(row["inside"]) for row in rows)
    trials = sum(int(row["trials"]) for row in rows)
    return inside / trials, math.sqrt(0.05 * 0.95 / trials)


def of(table, level, **wanted):
    return [
        row
        for row in table
        if float(row["level"]) == level and all(row[k] == v for k, v in wanted.items())
    ]


def test_every_cell_is_there(script, table):
    methods = {row["method"] for row in table}
    assert len(methods) == 11
    cells = {(row["model"], row["errors"], int(row["n"]), row["method"]) for row in table}
    assert len(cells) == 3 * 2 * 3 * 11
    for row in table:
        if not row["method"].startswith(("bootstrap", "jackknife")):
            assert int(row["trials"]) > 0.98 * script.FITS[int(row["n"])]


@pytest.mark.parametrize(
    "method", ["t, expected", "t, observed", "t, propagated", "t, scaled", "profile"]
)
@pytest.mark.parametrize("level", [0.6827, 0.95])
def test_intervals_of_small_errors_hold_the_truth_as_often_as_they_say(table, method, level):
    by_cell = defaultdict(list)
    for row in of(table, level, method=method, errors="small"):
        by_cell[row["model"], row["n"], row["parameter"]].append(row)
    for rows in by_cell.values():
        (row,) = rows
        trials = int(row["trials"])
        spread = math.sqrt(level * (1 - level) / trials)
        assert abs(int(row["inside"]) / trials - level) < 4 * spread, row


def test_sandwich_and_resampled_points_undercover_where_points_are_few(table):
    for method in ("t, sandwich", "bootstrap, pairs"):
        few, _ = share(of(table, 0.95, method=method, n="10"))
        many, error = share(of(table, 0.95, method=method, n="300", errors="small"))
        assert few < 0.93
        assert abs(many - 0.95) < 0.02 + 3 * error


@pytest.mark.slow
@pytest.mark.parametrize(("name", "errors", "n"), [("line", "large", 10), ("decay", "small", 30)])
def test_the_table_is_what_its_seeds_give(script, table, name, errors, n):
    cell = script.simulate(name, errors, n, script.FITS[n])
    known = {
        (row["method"], float(row["level"]), row["parameter"]): int(row["inside"])
        for row in table
        if (row["model"], row["errors"], int(row["n"])) == (name, errors, n)
    }
    for counts in (script.of_tables(cell), script.of_profiles(cell)):
        for method, level, parameter, inside, _ in counts:
            # An end may fall on the truth to within rounding.
            assert abs(inside - known[method, level, parameter]) <= 2


@pytest.mark.slow
def test_resampled_intervals_are_what_their_seeds_give(script, table):
    cell = script.simulate("line", "small", 10, script.FITS[10])
    found = {row[:3]: row[3:] for row in script.of_resamples(cell, 20)}
    for (method, level, parameter), (inside, trials) in found.items():
        (row,) = of(
            table, level, method=method, model="line", errors="small", n="10", parameter=parameter
        )
        expected = int(row["inside"]) / int(row["trials"])
        assert abs(inside / trials - expected) < 4 * math.sqrt(0.25 / trials)
