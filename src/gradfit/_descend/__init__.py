"""Gradient descent on the graph of any scalar loss, and what to learn from it."""

from gradfit._descend.door import descend
from gradfit._descend.sweep import sweep_lr

__all__ = ["descend", "sweep_lr"]
