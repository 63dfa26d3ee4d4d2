"""The computational graph of any torch function, opened up.

:func:`trace` runs a function once and returns a :class:`Graph`: each operation as it was written,
with its value, its gradient, why it requires grad, and the line it came from.
"""

from gradfit.graph.film import Film
from gradfit.graph.graph import Backward, Graph
from gradfit.graph.record import Call, Custom, Edge, Node, Ref, Source
from gradfit.graph.trace import trace
from gradfit.graph.values import Snapshot, Stats
from gradfit.graph.why import Diagnosis, why

__all__ = [
    "Backward",
    "Call",
    "Custom",
    "Diagnosis",
    "Edge",
    "Film",
    "Graph",
    "Node",
    "Ref",
    "Snapshot",
    "Source",
    "Stats",
    "trace",
    "why",
]
