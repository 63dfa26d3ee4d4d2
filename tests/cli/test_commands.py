"""``gradfit graph`` and ``bench``, and how the command line as such behaves."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import gradfit
from gradfit import cli as door
from gradfit.app import tutorial

LOSS = "mean((a*x - y + b)**2 / (a**2 + 1))"
COMMANDS = ["fit", "line", "demo", "graph", "bench"]


def test_graph_prints_values_and_gradients_of_the_loss(cli, tmp_path):
    x, y = (torch.from_numpy(v) for v in tutorial.points())
    a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    loss = ((a * x - y + b) ** 2 / (a**2 + 1)).mean()
    loss.backward()
    run = cli("graph", LOSS, "--set", "a=0.5", "--set", "b=0")
    assert run.code == 0
    assert "the points of gradfit demo" in run.err
    rows = [re.split(r"\s{2,}", line) for line in run.out.splitlines()]
    for name, leaf in (("a", a), ("b", b)):
        (row,) = (row for row in rows if row[1:3] == [name, "leaf"])
        assert [float(number) for number in row[4:6]] == pytest.approx(
            [leaf.item(), leaf.grad.item()], rel=1e-3
        )
    assert float(rows[-1][rows[-1].index("()") + 1]) == pytest.approx(loss.item(), rel=1e-3)


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_graph_is_drawn(cli, tmp_path, suffix):
    file = tmp_path / "new" / f"loss{suffix}"
    run = cli("graph", LOSS, "--set", "a=0.5,b=0", "--set", "x=1,2,3", "--set", "y=2,4,5.5",
              "--out", file)  # fmt: skip
    assert run.code == 0, run.err
    assert run.err == f"gradfit: wrote {file}\n"
    assert "<svg" in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_graph_takes_columns_of_a_table(cli, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("u,v\n1,2\n2,5\n")
    run = cli("graph", "sum((k*u - v)**2)", "--set", "k=1.5", "--data", table)
    assert run.code == 0, run.err
    residual = 1.5 * np.array([1.0, 2.0]) - np.array([2.0, 5.0])
    assert f"{(residual**2).sum():g}" in run.out


def test_graph_says_where_a_bad_number_is_born(cli):
    run = cli("graph", "sqrt(a - 2)", "--set", "a=1")
    assert run.code == 0
    assert run.err == (
        "gradfit: NaN begins in the forward of `sqrt(a - 2)`: "
        "the square root needs numbers that are not negative\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a*q", "--set", "a=1"), "no value for q; give --set q=NUMBER, or --data FILE"),
        (("a*x", "--set", "c=1"), "--set: the formula has no name 'c'; its names are a, x"),
        (("a*x +", "--set", "a=1"), "formula"),
        (("a*x", "--set", "a=1", "--out", "loss.png"), "--out: expected a file .svg or .html"),
        (("a*x", "--set", "a=one"), "--set: a must be a number, got 'one'"),
        (("a*q", "--set", "a=1", "--data", "nowhere.csv"), "there is no file nowhere.csv"),
        (("1 + 2",), "the formula '1 + 2' has no names, so nothing can have a gradient"),
        (
            ("a*x", "--set", "a=1,2", "--set", "x=1,2,3"),
            "names with several values must have equally many; they have a 2, x 3",
        ),
        ((), "Missing argument 'FORMULA'"),
    ],
)
def test_graph_refuses_in_one_line(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    run = cli("graph", *arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert run.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_bench_reports_ratios_for_equal_answers(cli, tmp_path):
    run = cli("bench", "--quick", "--json", "--out", str(tmp_path / "new"))
    assert run.code == 0
    report = json.loads(run.out)
    assert len(report["rows"]) == 5
    for row in report["rows"]:
        assert set(row["seconds"]) - {"prepared", "eager"} == {"gradfit", *row["ratio"]}
        assert all(ratio > 0 for ratio in row["ratio"].values())
    assert json.loads((tmp_path / "new" / "quick.json").read_text(encoding="utf-8")) == report
    table = (tmp_path / "new" / "quick.md").read_text(encoding="utf-8")
    assert all(f"| {row['work']} |" in table for row in report["rows"])


def test_no_arguments_show_the_help(cli):
    run = cli()
    assert (run.code, run.err) == (0, "")
    assert all(command in run.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli, command):
    run = cli(command, "--help")
    assert (run.code, run.err) == (0, "")
    assert f"gradfit {command}" in run.out


def test_version_is_that_of_the_package(cli):
    assert cli("--version").out == f"gradfit {gradfit.__version__}\n"


def test_help_and_version_do_not_wait_for_torch():
    code = (
        "import sys; from gradfit.cli import main; main(['--version']); main(['fit', '--help']);"
        "sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fot",), "No such command 'fot'"),
        (("fit",), "Missing argument 'DATA'"),
        (("fit", "a.csv", "--x", "x"), "Missing option '--model'"),
        (("fit", "a.csv", "--model", "line", "--x", "x", "--sigma", "1"), "No such option"),
        (("bench", "--quick=1"), "does not take a value"),
    ],
)
def test_misspelt_commands_are_one_line_and_exit_code_2(cli, arguments, message):
    run = cli(*arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert run.err.count("\n") == 1


def test_bug_shows_its_traceback_and_is_no_fit_that_failed(cli, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("not the user's fault")

    monkeypatch.setattr("gradfit.app.table.read", broken)
    run = cli("line", "a.csv", "--x", "x", "--y", "y")
    assert run.code == door.BUG
    assert "ZeroDivisionError: not the user's fault" in run.err


def test_interrupt_is_said_and_writes_nothing(cli, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradfit.app.table.read", interrupted)
    run = cli("line", "a.csv", "--x", "x", "--y", "y", "--out", tmp_path / "out")
    assert (run.code, run.out) == (door.INTERRUPTED, "")
    assert run.err == "gradfit: interrupted, nothing written\n"
    assert list(tmp_path.iterdir()) == []
