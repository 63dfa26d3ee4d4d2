"""Killed, full, closed, locked: what is left is the set of one run, and one line that says why."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradfit import cli as door
from gradfit.app import files as writing
from gradfit.errors import InputError

NAMES = ("fit.json", "summary.txt", "fit.png")
POINTS = "x,y\n0,1.1\n1,2.9\n2,5.2\n3,6.8\n4,9.1\n"
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def the_set(text: str, names: tuple[str, ...] = NAMES) -> dict[str, writing.Write]:
    return {name: lambda path: path.write_text(text) for name in names}


def found(folder: Path) -> dict[str, str]:
    """Return what a reader finds: files of the set, and nothing that is hidden."""
    if not folder.exists():
        return {}
    return {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith(".")}


def in_child(work: Callable[[], int]) -> int:
    """Run work in a process of its own, and return its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, folder: Path) -> bool:
    """Write a set in a process that dies before its ``step``-th look at the disk."""

    def work() -> int:
        count = 0

        def watch(event: str, _: object) -> None:
            nonlocal count
            if event.partition(".")[0] in ("os", "open", "shutil", "ctypes"):
                count += 1
                if count == step:
                    os._exit(9)

        sys.addaudithook(watch)
        writing.write_files(folder, the_set("new", NAMES[:2]), NAMES)
        return 0

    return in_child(work) == 9


@posix
@pytest.mark.parametrize("other", [False, True], ids=["alone", "among other files"])
def test_a_kill_at_any_step_leaves_the_set_of_one_run(tmp_path, other):
    seen = set()
    for step in range(1, 200):
        folder = tmp_path / str(step)
        writing.write_files(folder, the_set("old"), NAMES)
        if other:
            (folder / "notes").write_text("mine")
        alive = not killed_at(step, folder)
        left = found(folder)
        if other:
            assert left.pop("notes") == "mine"
            assert len(set(left.values())) <= 1, (step, left)
        else:
            assert left in ({**dict.fromkeys(NAMES, "old")}, dict.fromkeys(NAMES[:2], "new")), step
        seen.add(frozenset(left.values()))
        if alive:
            break
        writing.write_files(folder, the_set("next"), NAMES)
        assert found(folder) == dict.fromkeys(NAMES, "next") | ({"notes": "mine"} if other else {})
        assert not [p for p in folder.rglob("*") if p.name.startswith(".")]
    assert alive
    assert step > 10
    assert not list(tmp_path.glob(".*"))
    assert seen >= {frozenset({"old"}), frozenset({"new"})}


@posix
def test_a_first_set_is_there_as_a_whole_or_not_at_all(tmp_path):
    for step in range(1, 100):
        folder = tmp_path / str(step) / "deep" / "out"
        alive = not killed_at(step, folder)
        assert found(folder) in ({}, dict.fromkeys(NAMES[:2], "new"))
        if alive:
            return
    raise AssertionError("never ended")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_the_way_is_told_before_any_work(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"--out: .*{name} is a folder, and in the way"):
        writing.check_directory(tmp_path, NAMES)


def test_what_fails_half_way_is_put_back(tmp_path, monkeypatch):
    writing.write_files(tmp_path / "out", the_set("old"), NAMES)
    (tmp_path / "out" / "notes").write_text("mine")

    def rename(self: Path, target: Path) -> Path:
        if self.is_file() and self.read_text() == "new" and self.name == NAMES[1]:
            raise OSError(28, "No space left on device")
        return original(self, target)

    original = Path.rename
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match="No space left"):
        writing.write_files(tmp_path / "out", the_set("new"), NAMES)
    assert found(tmp_path / "out") == dict.fromkeys(NAMES, "old") | {"notes": "mine"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_run_that_fails_takes_the_picture_of_the_last_one_away(cli, tmp_path):
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text(POINTS)
    fit = ("fit", table, "--x", "x", "--y", "y", "--out", out, "--quiet", "--model")
    assert cli(*fit, "a + b*x", "--start", "a=1,b=1").code == 0
    assert "fit.png" in found_names(out)
    assert cli(*fit, "a + b*x + c*x", "--start", "a=1,b=1,c=1").code == 1
    assert found_names(out) == {"fit.json", "summary.txt", "report.html"}
    assert not json.loads((out / "fit.json").read_text())["success"]


def found_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def streams(tmp_path: Path, arguments: list[str], **replaced: str | None) -> tuple[int, str, str]:
    """Run a command whose standard streams are files, devices, or closed where None."""
    paths = {"out": str(tmp_path / "stdout"), "err": str(tmp_path / "stderr"), **replaced}
    kept = {number: os.dup(number) for number in (1, 2)}
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for number, key in ((1, "out"), (2, "err")):
            path, stream = paths[key], None
            if path is not None:
                opened = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
                os.dup2(opened, number)
                os.close(opened)
                stream = stack.enter_context(open(number, "w", closefd=False))
            patch.setattr(sys, f"std{key}", stream)
        if "in" in replaced:
            patch.setattr(sys, "stdin", None)
        for number, key in ((1, "out"), (2, "err")):
            if paths[key] is None:
                os.close(number)
        try:
            code = door.main(arguments)
        finally:
            if paths["err"] is None and sys.stderr is not None:
                sys.stderr.close()
            for number, old in kept.items():
                os.dup2(old, number)
                os.close(old)
    read = {k: Path(p).read_text() if p and Path(p).is_file() else "" for k, p in paths.items()}
    return code, read["out"], read["err"]


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(POINTS)
    return path


@posix
@pytest.mark.parametrize("stdout", ["/dev/full", None], ids=["full", "closed"])
@pytest.mark.parametrize("more", [(), ("--json",), ("--out",)], ids=["text", "json", "files"])
def test_an_answer_that_cannot_be_printed_is_one_line_and_nothing_is_written(
    tmp_path, table, stdout, more
):
    out = tmp_path / "out"
    extra = [*more, str(out)] if "--out" in more else list(more)
    code, _, said = streams(
        tmp_path, ["line", str(table), "--x", "x", "--y", "y", *extra], out=stdout
    )
    assert code == door.BAD_INPUT
    assert said.count("\n") == 1
    assert said.startswith("gradfit: cannot print the answer: ")
    assert not out.exists()


@posix
@pytest.mark.parametrize("stdout", ["/dev/full", None], ids=["full", "closed"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fit", "--help"]])
def test_help_that_cannot_be_printed_is_no_bug(tmp_path, stdout, arguments):
    code, _, said = streams(tmp_path, arguments, out=stdout)
    assert code == door.BAD_INPUT
    assert said.count("\n") <= 1
    assert "Traceback" not in said


@posix
@pytest.mark.parametrize("stderr", ["/dev/full", None], ids=["full", "closed"])
def test_the_answer_does_not_need_standard_error(tmp_path, table, stderr):
    arguments = ["line", str(table), "--x", "x", "--y", "y", "--out", str(tmp_path / "out")]
    code, answer, _ = streams(tmp_path, arguments, err=stderr)
    assert code == 0
    assert answer.startswith("Fit of y = line")
    assert "gradfit: wrote" not in answer
    assert streams(tmp_path, ["line", "nowhere"], err=stderr)[0] == door.BAD_INPUT


@posix
def test_a_closed_standard_input_is_told(tmp_path):
    code, _, said = streams(tmp_path, ["line", "-", "--x", "x", "--y", "y"], **{"in": None})
    assert (code, said.count("\n")) == (door.BAD_INPUT, 1)
    assert "standard input is closed" in said


@posix
def test_arguments_that_are_no_text_are_told(tmp_path):
    code, _, said = streams(tmp_path, ["line", "\udcff.csv", "--x", "\udcfe", "--y", "y"])
    assert (code, said.count("\n")) == (door.BAD_INPUT, 1)


@pytest.mark.parametrize(
    ("option", "instead"), [("--sigma", "--sy"), ("--xerr", "--sx"), ("--p0", "--start")]
)
def test_words_of_other_programs_are_understood(cli, option, instead):
    run = cli("fit", "t.csv", "--model", "a*x", "--x", "x", "--y", "y", option, "1")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert f"It is {instead} here." in run.err


@pytest.mark.slow
@posix
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "2>&-", "2>/dev/full", "<&-"])
def test_a_shell_sees_no_traceback(tmp_path, table, redirection):
    command = f"{sys.executable} -m gradfit line {table} --x x --y y {redirection}"
    run = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert run.returncode == (2 if redirection.startswith(">") else 0)
    assert "Traceback" not in run.stderr
    assert run.stderr.count("\n") == (1 if redirection.startswith(">") else 0)
