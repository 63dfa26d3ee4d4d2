"""``gradfit fit`` and ``gradfit line``: answers, exit codes, files, and what is refused."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracles.york import york

ROOT = Path(__file__).parents[2]
PEARSON = ROOT / "examples" / "pearson_york.csv"
COLUMNS = ("--x", "x", "--y", "y", "--sx", "sx", "--sy", "sy")
LINE = ("--model", "a + b*x", "--start", "a=5,b=-0.5")
REFERENCE = json.loads((ROOT / "tests/oracles/refsets/pearson_york.json").read_text())


@pytest.fixture
def pearson():
    """x, y, sx, sy of Pearson's data with York's weights."""
    return np.loadtxt(PEARSON, delimiter=",", skiprows=1, unpack=True)


def expected() -> tuple[float, float, float]:
    """Intercept, slope and chi-square of the reference solution, found in 90 digits."""
    best = REFERENCE["expected"]
    return *map(float, best["beta"]), float(best["chi2"])


@pytest.mark.parametrize("command", ["fit", "line"])
def test_pearson_with_yorks_weights_to_nine_digits(cli, command):
    extra = LINE if command == "fit" else ()
    run = cli(command, PEARSON, *COLUMNS, *extra, "--json")
    assert (run.code, run.err) == (0, "")
    answer = json.loads(run.out)
    names = ("a", "b") if command == "fit" else ("intercept", "slope")
    got = [answer["params"][name] for name in names]
    assert [*got, answer["chi2"]] == pytest.approx(expected(), rel=1e-9)


def test_correlated_errors_agree_with_yorks_iteration(cli, pearson):
    best = york(*pearson, rho=0.3)
    run = cli("fit", PEARSON, *COLUMNS, *LINE, "--rho", "0.3", "--json")
    answer = json.loads(run.out)
    assert answer["params"]["a"] == pytest.approx(best.intercept, rel=1e-9)
    assert answer["params"]["b"] == pytest.approx(best.slope, rel=1e-9)
    assert answer["stderr"]["a"] == pytest.approx(best.se_intercept, rel=1e-6)
    assert answer["stderr"]["b"] == pytest.approx(best.se_slope, rel=1e-6)


def test_summary_goes_to_standard_output_and_nothing_else_does(cli, tmp_path):
    run = cli("fit", PEARSON, *COLUMNS, *LINE, "--out", tmp_path / "out")
    assert run.code == 0
    assert "-0.48" in run.out
    assert run.err.startswith("gradfit: wrote ")
    assert run.out.strip() == (tmp_path / "out" / "summary.txt").read_text().strip()


def test_json_on_screen_is_the_json_in_the_file_and_knows_no_nan(cli, tmp_path):
    two = tmp_path / "two.csv"
    two.write_text("x,y\n0,1\n1,3\n")
    run = cli("fit", two, "--x", "x", "--y", "y", *LINE, "--json", "--out", tmp_path / "out")
    assert run.code == 0
    file = (tmp_path / "out" / "fit.json").read_text()
    assert json.loads(run.out) == json.loads(file, parse_constant=pytest.fail)
    assert json.loads(run.out)["mswd"] is None


def test_out_holds_picture_report_points_and_no_draft(cli, tmp_path):
    out = tmp_path / "new" / "out"
    run = cli("fit", PEARSON, *COLUMNS, *LINE, "--out", out, "--quiet")
    assert (run.code, run.out, run.err) == (0, "", "")
    names = {path.name for path in out.iterdir()}
    assert names == {"fit.json", "fit.png", "fit.svg", "report.html", "summary.txt"}
    assert (out / "fit.png").read_bytes()[:4] == b"\x89PNG"


def test_standard_input_and_separators_give_the_same_fit(cli, monkeypatch):
    text = PEARSON.read_text()
    expected_out = cli("fit", PEARSON, *COLUMNS, *LINE, "--json").out
    for content in (text, text.replace(",", "\t"), text.replace(",", ";")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        answer = json.loads(cli("fit", "-", *COLUMNS, *LINE, "--json").out)
        assert answer["params"] == json.loads(expected_out)["params"]


def test_held_parameters_stay_and_bounds_hold(cli):
    run = cli("fit", PEARSON, *COLUMNS, *LINE[:2], "--start", "b=-0.5", "--fix", "a=5", "--json")
    answer = json.loads(run.out)
    assert run.code == 0
    assert (answer["params"]["a"], answer["stderr"]["a"]) == (5.0, 0.0)


def test_a_parameter_may_be_called_as_a_column_when_it_is_given_a_start(cli, tmp_path):
    file = tmp_path / "points.csv"
    file.write_text("x,a\n0,1\n1,3\n2,5\n")
    columns = ("--x", "x", "--y", "a", "--model", "a*x + b")
    assert "'a', a column of the data" in cli("fit", file, *columns).err
    run = cli("fit", file, *columns, "--start", "a=1,b=1", "--json")
    assert json.loads(run.out)["params"] == pytest.approx({"a": 2, "b": 1}, rel=1e-12)


def test_formulas_with_commas_fit_several_columns_of_y_at_once(cli, tmp_path):
    file = tmp_path / "points.csv"
    file.write_text("t,u,v\n" + "".join(f"{t},{2 * t + 1},{3 * t}\n" for t in range(5)))
    columns = ("--x", "t", "--y", "u,v", "--model", "a*t + b, (a + b)*t")
    run = cli("fit", file, *columns, "--json")
    assert (run.code, run.err) == (0, "")
    assert json.loads(run.out)["params"] == pytest.approx({"a": 2, "b": 1}, rel=1e-9)


@pytest.mark.parametrize("command", [("fit", *LINE), ("line",)])
def test_relative_errors_are_scaled_by_the_scatter(cli, pearson, command):
    """With x exact and equal errors in y: ordinary least squares, as NumPy does it."""
    x, y, *_ = pearson
    _, cov = np.polyfit(x, y, 1, cov=True)
    columns = ("--x", "x", "--y", "y", "--sy", "7", "--relative")
    run = cli(command[0], PEARSON, *columns, *command[1:], "--json")
    error = json.loads(run.out)["stderr"]
    assert error["b" if "fit" in command else "slope"] == pytest.approx(cov[0, 0] ** 0.5, rel=1e-9)


def test_missing_rows_are_left_out_when_asked(cli, tmp_path):
    holes = tmp_path / "holes.csv"
    rows = PEARSON.read_text().splitlines()
    holes.write_text("\n".join([*rows[:3], "NA,1,0.1,0.1", *rows[3:], "3,1,,0.1"]))
    run = cli("fit", holes, *COLUMNS, *LINE, "--nan", "omit", "--json")
    assert run.code == 0
    assert json.loads(run.out)["chi2"] == pytest.approx(expected()[2], rel=1e-12)
    run = cli("fit", holes, *COLUMNS, *LINE, "--json")
    assert run.code == 2
    assert "column 'x' of holes.csv, data row 3: the value is missing" in run.err


@pytest.fixture
def grouped(tmp_path):
    """Two good groups and one with a single point."""
    path = tmp_path / "groups.csv"
    x = np.linspace(0.0, 5.0, 12)
    rows = [f"{x},{2 * x + 1 + 0.1 * (-1) ** i},up" for i, x in enumerate(x)]
    rows += [f"{x},{3 - x + 0.1 * (-1) ** i},down" for i, x in enumerate(x)]
    path.write_text("\n".join(["x,y,run", *rows, "1,1,lonely"]))
    return path


def test_groups_are_fitted_on_their_own_and_a_failed_one_is_exit_code_1(cli, grouped, tmp_path):
    out = tmp_path / "out"
    columns = ("--x", "x", "--y", "y", "--sx", "0.1", "--sy", "0.1")
    run = cli("fit", grouped, *columns, *LINE, "--group", "run", "--out", out, "--json")
    assert run.code == 1
    assert "warning" in run.err
    answer = json.loads(run.out)
    assert answer["keys"] == ["up", "down", "lonely"]
    x = np.linspace(0.0, 5.0, 12)
    for row, y in enumerate((2 * x + 1, 3 - x)):
        best = york(x, y + 0.1 * (-1) ** np.arange(12), 0.1, 0.1)
        assert answer["params"]["b"][row] == pytest.approx(best.slope, rel=1e-9)
    table = (out / "fits.csv").read_text().splitlines()
    assert len(table) == 4


def test_lines_are_fitted_group_by_group(cli, grouped):
    columns = ("--x", "x", "--y", "y", "--sx", "0.1", "--sy", "0.1", "--group", "run")
    run = cli("line", grouped, *columns, "--json")
    assert run.code == 1
    answer = json.loads(run.out)
    assert answer["keys"] == ["up", "down", "lonely"]
    x = np.linspace(0.0, 5.0, 12)
    for row, y in enumerate((2 * x + 1, 3 - x)):
        best = york(x, y + 0.1 * (-1) ** np.arange(12), 0.1, 0.1)
        assert answer["params"]["slope"][row] == pytest.approx(best.slope, rel=1e-9)
        assert answer["stderr"]["slope"][row] == pytest.approx(best.se_slope, rel=1e-6)


def test_fit_that_does_not_converge_is_written_and_exit_code_1(cli, tmp_path):
    flat = tmp_path / "flat.csv"
    flat.write_text("x,y\n0,1\n1,2\n2,3\n3,5\n")
    out = tmp_path / "out"
    run = cli(
        "fit", flat, "--x", "x", "--y", "y", "--model", "(a + b)*x", "--start", "a=1,b=1",
        "--out", out, "--json",
    )  # fmt: skip
    assert run.code == 1
    assert "warning" in run.err
    assert json.loads(run.out)["success"] is False
    assert json.loads((out / "fit.json").read_text())["success"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--x", "q", "--y", "y", *LINE), "--x: pearson_york.csv has no column 'q'"),
        (("--x", "x", "--y", "y", "--model", "a + b*x +"), "gradfit: "),
        (("--x", "x", "--y", "y", "--model", "__import__('os')"), "gradfit: "),
        (("--x", "x", "--y", "y", "--model", "frob(a*x)"), "frob"),
        (("--x", "x", "--y", "y", "--model", "linee"), "gradfit: "),
        (("--x", "x", "--y", "y", *LINE, "--sy", "-0.1"), "sy"),
        (("--x", "x", "--y", "y", *LINE, "--sx", "1", "--sy", "1", "--rho", "1.5"), "rho"),
        (("--x", "x", "--y", "y", *LINE[:2], "--start", "a=1,q=2"), "q"),
        (("--x", "x", "--y", "y", *LINE[:2], "--start", "a=1,b"), "--start: expected NAME=VALUE"),
        (("--x", "x", "--y", "y", "--model", "log(a - 10) + b*x", "--start", "a=1,b=1"), "start"),
        (("--x", "x", "--y", "y", *LINE, "--nan", "drop"), "--nan: expected raise or omit"),
        (("--x", "x", "--y", "y", "--model", "a + b*x + c*sx"), "'sx', a column of the data"),
        (("--x", "x", "--y", "y", "--y", "sy", *LINE), "Write a formula for each"),
        (("--y", "y", *LINE), "Missing option '--x'"),
        (("--x", "x", "--y", "y", *LINE, "--bounds", "a=1"), "--bounds: expected a=LOW:HIGH"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(cli, tmp_path, arguments, message):
    out = tmp_path / "out"
    run = cli("fit", PEARSON, *arguments, "--out", out)
    assert run.code == 2
    assert run.out == ""
    assert message in run.err
    assert run.err.startswith("gradfit: ")
    assert run.err.count("\n") == 1
    assert not out.exists()


def test_out_that_is_a_file_is_refused_before_the_fit(cli, tmp_path):
    file = tmp_path / "taken"
    file.write_text("mine")
    for out in (file, file / "deeper"):
        run = cli("fit", PEARSON, *COLUMNS, *LINE, "--out", out)
        assert (run.code, run.out) == (2, "")
        assert "--out: " in run.err
    assert file.read_text() == "mine"


def test_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "gradfit", "fit", str(PEARSON), *COLUMNS, *LINE]
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_curve_of_which_all_is_fixed_is_evaluated(cli, pearson):
    run = cli("fit", PEARSON, *COLUMNS, "--model", "a + b*x", "--fix", "a=5.5,b=-0.5", "--json")
    x, y, sx, sy = pearson
    answer = json.loads(run.out)
    want = ((y - 5.5 + 0.5 * x) ** 2 / (sy**2 + 0.25 * sx**2)).sum()
    assert (run.code, run.err, answer["dof"]) == (0, "", len(x))
    assert answer["chi2"] == pytest.approx(want, rel=1e-9)
