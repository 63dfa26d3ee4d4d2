"""The points of the tutorial: a known line, seen with noise in both coordinates."""

import numpy as np

from gradfit._simulate import simulate
from gradfit._types import FloatArray

MODEL = "a*x + b"
TRUE = {"a": 2.5, "b": 1.0}
NOISE = 2.0
POINTS = 100
SEED = 0


def points() -> tuple[FloatArray, FloatArray]:
    """Simulate x and y, the same at every call."""
    return simulate(MODEL, TRUE, np.linspace(0.0, 100.0, POINTS), sx=NOISE, sy=NOISE, seed=SEED)
