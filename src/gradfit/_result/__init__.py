"""What a fit gives back: one frozen value, or a table with one row per group."""

from gradfit._result.observed import Observed
from gradfit._result.prediction import Band
from gradfit._result.single import FitResult
from gradfit._result.table import FitTable

__all__ = ["Band", "FitResult", "FitTable", "Observed"]
