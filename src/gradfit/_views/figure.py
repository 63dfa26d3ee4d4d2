"""A figure of our own: no pyplot, shown by notebooks, and the same bytes at every save."""

from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

DPI = 150


class Drawing(Figure):
    """A Matplotlib figure that no global list of figures holds."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """Save as :meth:`matplotlib.figure.Figure.savefig` does, without date or random names."""
        with rc_context({"svg.hashsalt": "gradfit"}):
            kind = kwargs.get("format") or str(fname).rpartition(".")[2]
            if kind == "svg":
                kwargs.setdefault("metadata", {"Date": None, "Creator": "gradfit"})
            super().savefig(fname, **kwargs)


def drawing(width: float, height: float) -> Drawing:
    """Return an empty figure; sizes in inches."""
    return Drawing(figsize=(width, height), dpi=DPI, layout="constrained")
