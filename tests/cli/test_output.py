"""Files are complete or absent, JSON is JSON, and a terminal sees that work goes on."""

import io
import sys
import warnings

import pytest

from gradfit.app import files as writing
from gradfit.app import output
from gradfit.errors import InputError


def test_files_appear_under_their_names_only(tmp_path):
    out = tmp_path / "deep" / "out"
    paths = writing.write_files(out, {"a.txt": lambda p: p.write_text("1")})
    assert paths == [out / "a.txt"]
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("a.txt", "1")]


def full(path):
    """Write a little, then find the disk full."""
    path.write_text("half")
    raise OSError(28, "No space left on device")


def test_failed_write_leaves_neither_files_nor_folder(tmp_path):
    files = {"a.txt": lambda p: p.write_text("1"), "b.txt": full}
    with pytest.raises(InputError, match="cannot write to .*: No space left on device"):
        writing.write_files(tmp_path / "out", files)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_files_of_the_last_run_alone(tmp_path):
    writing.write_files(tmp_path, {"a.txt": lambda p: p.write_text("old")})
    with pytest.raises(InputError, match="cannot write"):
        writing.write_files(tmp_path, {"a.txt": lambda p: p.write_text("new"), "b.txt": full})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_interrupted_write_leaves_nothing(tmp_path):
    def interrupt(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writing.write_files(tmp_path / "out", {"a.txt": interrupt})
    assert list(tmp_path.iterdir()) == []


def test_warnings_become_one_remark_each(capsys):
    with output.remarks(quiet=False):
        for text in ("first", "second", "first"):
            warnings.warn(text, UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "gradfit: warning: first\ngradfit: warning: second\n"
    with output.remarks(quiet=True):
        warnings.warn("third", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


def test_progress_shows_on_a_terminal_only(monkeypatch, capsys):
    with output.progress("fitting", quiet=False) as say:
        assert say is None
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with output.progress("fitting", quiet=False) as say:
        say("step 7")
    assert "fitting: step 7" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    with output.progress("fitting", quiet=True) as say:
        assert say is None
    assert sys.stderr.getvalue() == ""
    assert capsys.readouterr().out == ""
