"""Machine code on disk: nothing is loaded that is damaged, moved, or not the user's alone."""

import os
import stat
import sys
import time

import numpy as np
import pytest

from gradfit._native import machine, store

from .compare import kernel_of

posix = pytest.mark.skipif(sys.platform == "win32", reason="files have no owner there")
NAMES = [f"{k:032x}" for k in range(1, 5)]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder of some files, each as it is written."""
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path / "kept"))
    rng = np.random.default_rng(1)
    for name in NAMES:
        store.write(name, rng.bytes(300))
    return tmp_path / "kept"


def test_what_is_written_is_read_again_and_is_the_users_alone(kept):
    assert len({store.read(name) for name in NAMES} - {None}) == len(NAMES)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700 or sys.platform == "win32"
    assert sorted(f.name for f in kept.iterdir()) == NAMES


def test_a_thousand_damaged_files_are_none(kept):
    rng = np.random.default_rng(7)
    whole = {name: (kept / name).read_bytes() for name in NAMES}
    for k in range(1000):
        name, other = rng.permutation(NAMES)[:2]
        text = bytearray(whole[name])
        if k % 3 == 0:
            text[rng.integers(len(text))] ^= 1 << rng.integers(8)
        elif k % 3 == 1:
            del text[rng.integers(len(text)) :]
        else:
            text = bytearray(whole[other])
        (kept / name).write_bytes(text)
        assert store.read(name) is None, (k, name)
        (kept / name).write_bytes(whole[name])
        assert store.read(name) is not None


OTHERS = {
    "a folder that others may write to": lambda folder, file: folder.chmod(0o777),
    "a folder that the group may write to": lambda folder, file: folder.chmod(0o770),
    "a file that others may write to": lambda folder, file: file.chmod(0o666),
    "a link": lambda folder, file: file.rename(folder / "a") and file.symlink_to(folder / "a"),
    "no file": lambda folder, file: file.unlink() or file.mkdir(),
    "a pipe": lambda folder, file: file.unlink() or os.mkfifo(file),
}


@posix
@pytest.mark.parametrize("what", OTHERS)
def test_what_others_may_have_written_is_not_loaded(kept, what):
    OTHERS[what](kept, kept / NAMES[0])
    assert store.read(NAMES[0]) is None


@posix
def test_files_of_another_user_are_not_loaded(kept, monkeypatch):
    user = os.geteuid()
    monkeypatch.setattr(store.os, "geteuid", lambda: user + 1)
    assert store.read(NAMES[0]) is None
    assert not store.holds(NAMES[0])
    store.write("f" * 32, b"nothing")
    assert sorted(f.name for f in kept.iterdir()) == NAMES


@posix
@pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")
def test_a_fit_does_without_a_folder_that_it_does_not_trust(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(folder))
    monkeypatch.setattr(machine, "_loaded", machine._loaded.__class__())
    kernel = kernel_of(lambda x, b: b[0] * x, 1, 1)
    assert kernel.evaluate("value", [[0.5]], [2.0])[0, 0] == 1.0
    assert not list(folder.iterdir())


@pytest.mark.parametrize("variable", ["GRADFIT_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_relative_path_is_ignored(variable, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)
    for name in ("GRADFIT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    plain = store.folder()
    monkeypatch.setenv(variable, "somewhere")
    assert store.folder() == plain
    assert plain is None or plain.is_absolute()


def test_variables_of_numba_steer_nothing(monkeypatch, tmp_path):
    before = store.folder(), machine.enabled()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert (store.folder(), machine.enabled()) == before


@pytest.mark.parametrize(
    ("value", "on"), [("0", False), ("off", False), ("", True), ("1", True), ("False", False)]
)
def test_one_variable_says_whether_anything_is_compiled(value, on, monkeypatch):
    monkeypatch.setenv("GRADFIT_JIT", value)
    assert machine.enabled() is on


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_nobody_used_for_long_goes_and_other_files_stay(kept):
    mine, draft, young = kept / "notes.txt", kept / "draft-x", kept / "draft-y"
    for path in (mine, draft, young):
        path.write_text("words")
    age(kept / NAMES[0], store.OLDEST + 60)
    age(draft, store.DRAFTS + 60)
    age(mine, 2 * store.OLDEST)
    store.prune()
    assert sorted(f.name for f in kept.iterdir()) == sorted([*NAMES[1:], "draft-y", "notes.txt"])


def test_of_too_much_goes_what_was_not_used_for_longest(kept, monkeypatch):
    for k, name in enumerate(NAMES):
        age(kept / name, 1000.0 * (k + 1))
    monkeypatch.setattr(store, "LARGEST", 2 * (kept / NAMES[0]).stat().st_size)
    store.prune()
    assert sorted(f.name for f in kept.iterdir()) == NAMES[:2]


def test_what_is_used_stays_young(kept):
    age(kept / NAMES[0], store.OLDEST - 60)
    assert store.read(NAMES[0]) is not None
    assert time.time() - (kept / NAMES[0]).stat().st_mtime < 60
