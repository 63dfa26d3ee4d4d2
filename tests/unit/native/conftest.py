"""Machine code of tests goes into a folder of their own, filled once per run."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_tests(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADFIT_CACHE_DIR", str(tmp_path_factory.mktemp("machine_code")))
        yield


@pytest.fixture
def as_python(monkeypatch):
    """Leave functions the Python they are."""
    monkeypatch.setenv("GRADFIT_JIT", "0")
