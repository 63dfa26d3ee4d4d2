"""The models behind lines: a straight line, and one with a scatter that does not move it."""

from torch import Tensor

from gradfit import models
from gradfit._model import Model

LINE = Model(fn=models.get("line"), names=("slope", "intercept"), label="line", correctable=False)
"""``slope*x + intercept``."""


def with_scatter(x: Tensor, slope: Tensor, intercept: Tensor, scatter: Tensor) -> Tensor:
    """Return the middle of the relation, which its scatter does not move."""
    return slope * x + intercept + 0 * scatter


RELATION = Model(
    fn=with_scatter,
    names=("slope", "intercept", "scatter"),
    label="line with scatter",
    correctable=False,
)
