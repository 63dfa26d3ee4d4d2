"""One command, run in this process: its exit code, answer and remarks."""

from typing import NamedTuple

import pytest

from gradfit.cli import main


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys):
    """Run ``gradfit`` with arguments."""

    def run(*arguments: object) -> Run:
        code = main([str(argument) for argument in arguments])
        return Run(code, *capsys.readouterr())

    return run
