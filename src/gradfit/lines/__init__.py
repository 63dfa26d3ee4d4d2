"""Straight lines, each under the name that its trade gives it, and what it assumes.

:func:`line` fits any of them by the errors that it is given. The others ask in the words of a
trade, and answer in its figures: :func:`york` and :func:`isochron` of geochronology,
:func:`iso28037` of metrology, :func:`deming` and :func:`passing_bablok` of clinical chemistry,
:func:`scatter` of astronomy; :func:`ols`, :func:`inverse_ols`, :func:`wls`, :func:`orthogonal` and
:func:`theil_sen` of every textbook.
"""

from gradfit.lines.comparison import deming, passing_bablok
from gradfit.lines.isochrons import isochron, york
from gradfit.lines.least_squares import inverse_ols, ols, orthogonal, wls
from gradfit.lines.metrology import iso28037
from gradfit.lines.ranks import theil_sen
from gradfit.lines.result import LineResult
from gradfit.lines.scattered import scatter
from gradfit.lines.straight import line

__all__ = [
    "LineResult",
    "deming",
    "inverse_ols",
    "iso28037",
    "isochron",
    "line",
    "ols",
    "orthogonal",
    "passing_bablok",
    "scatter",
    "theil_sen",
    "wls",
    "york",
]
