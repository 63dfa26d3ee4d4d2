"""Shared by all tests: laws are tried on the same examples in every run, figures need no screen."""

import os
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import settings

from gradfit.cli import main

os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("gradfit", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("gradfit")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20240229)


GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden anew from what the code says now; read the diff before committing",
    )


@pytest.fixture
def golden(request):
    """Hold a text against the file of that name under tests/golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8")

    return check


class Run(NamedTuple):
    """What one command line gave."""

    code: int
    out: str
    err: str


class Story(NamedTuple):
    """What ``gradfit demo`` said and wrote, and the processor time it took."""

    out: str
    err: str
    folder: Path
    seconds: float


@pytest.fixture(scope="session")
def story(tmp_path_factory) -> Story:
    """Run ``gradfit demo`` once for all tests of it."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    out, err = StringIO(), StringIO()
    began = time.process_time()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["demo", "--out", str(folder)])
    assert code == 0, err.getvalue()
    return Story(out.getvalue(), err.getvalue(), folder, time.process_time() - began)


@pytest.fixture
def cli(capsys):
    """Run ``gradfit`` with arguments in this process."""

    def run(*arguments: object) -> Run:
        code = main([str(argument) for argument in arguments])
        return Run(code, *capsys.readouterr())

    return run
