"""Some rows of a work on their own, and back to where they were cut out."""

import torch
from torch import Tensor

from gradfit._engine.eliminate import Linear
from gradfit._engine.state import Bounds, Work


def bounds_of(bounds: Bounds | None, rows: Tensor | None) -> Bounds | None:
    """Return the bounds of some rows."""
    if bounds is None or rows is None or bounds.lower.shape[0] == 1:
        return bounds
    return Bounds(bounds.lower[rows], bounds.upper[rows])


def cut(w: Work, mask: Tensor) -> tuple[Work, Tensor | None, Tensor | None]:
    """Cut the rows in ``mask`` out, with their points."""
    if bool(mask.all()):
        return w, None, None
    rows = torch.nonzero(mask)[:, 0]
    field, index = w.field.select(rows)
    kept: list[Linear] = []
    if w.kept:
        picked = [torch.cat(parts, -1)[..., index] for parts in zip(*w.kept, strict=True)]
        kept = [Linear(*(t[..., s.start : s.stop] for t in picked)) for s in field.stretches]
    return Work(field, w.state.select(rows), w.u[:, index], kept), rows, index


def paste(w: Work, part: Work, rows: Tensor | None, index: Tensor | None) -> Work:
    """Write rows back to where they were cut out."""
    if rows is None or index is None:
        return part
    u = w.u.index_copy(1, index, part.u)
    kept = w.kept
    if kept:
        whole = [torch.cat(parts, -1) for parts in zip(*kept, strict=True)]
        fresh = [torch.cat(parts, -1) for parts in zip(*part.kept, strict=True)]
        whole = [a.index_copy(-1, index, b) for a, b in zip(whole, fresh, strict=True)]
        kept = [Linear(*(t[..., s.start : s.stop] for t in whole)) for s in w.field.stretches]
    return Work(w.field, w.state.put(rows, part.state), u, kept)
