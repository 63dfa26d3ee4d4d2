"""Shared by all tests: laws are tried on the same examples in every run, figures need no screen."""

import os

import numpy as np
import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("gradfit", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("gradfit")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20240229)
