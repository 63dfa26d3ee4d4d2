"""What the README promises: its example runs, and its commands are complete."""

import json
import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[2]
SHELL = re.findall(r"^```sh\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_python_example_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    exec(compile(code, "README.md", "exec"), {})
    assert "chi2" in capsys.readouterr().out


def test_main_job_writes_its_picture(cli, tmp_path, monkeypatch):
    (job,) = re.findall(r"\.venv/bin/gradfit (.*)", SHELL[0])
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(job)
    arguments[arguments.index("--out") + 1] = str(tmp_path)
    assert cli(*arguments).code == 0
    assert (tmp_path / "fit.png").exists()
    assert json.loads((tmp_path / "fit.json").read_text())["success"] is True


# Two commands take their time, and have tests of their own.
LONG = ("gradfit bench", "gradfit demo")


@pytest.mark.parametrize("line", [k for k in SHELL[2].splitlines() if not k.startswith(LONG)])
def test_every_command_shown_runs_as_it_stands(cli, tmp_path, monkeypatch, line):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    run = cli(*shlex.split(line)[1:])
    assert run.code == 0, run.err


@pytest.mark.parametrize("line", [line for block in SHELL[:2] for line in block.splitlines()])
def test_each_of_the_two_commands_is_one_line_that_installs_what_it_runs(line):
    install = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt "
    assert line.startswith(install)


def test_pictures_and_links_of_this_repository_exist():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
