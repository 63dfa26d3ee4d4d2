"""The gate: whatever a user holds becomes float64 tensors here, or one clear error.

Everything behind the gate may rely on shapes, signs and finite numbers. Points are the last axis;
what is float64 and contiguous already is not copied.
"""

from gradfit._data.gate import Data, finite_rows, gather

__all__ = ["Data", "finite_rows", "gather"]
