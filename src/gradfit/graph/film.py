"""The same function at several values, one graph after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from gradfit.errors import TraceError
from gradfit.graph.graph import Detail, Graph, written


@dataclass(frozen=True, repr=False)
class Film:
    """The same function at several values: the steps of a descent or of a fit.

    Attributes
    ----------
    frames : tuple of Graph
    labels : tuple of str
        One per frame, such as ``"step 3"``.

    Examples
    --------
    >>> import torch
    >>> from gradfit.graph import Film
    >>> film = Film.of(lambda a: a**2 if a > 1 else 2 * a, [[torch.tensor(v)] for v in (3.0, 0.5)])
    >>> film
    Film of <lambda>: 2 frames, structure changes at [1]
    >>> film[1]["a"].value
    0.5
    """

    frames: tuple[Graph, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.frames:
            raise TraceError("a film needs at least one graph; 0 came")
        if not self.labels:
            labels = tuple(f"step {i}" for i in range(len(self.frames)))
            object.__setattr__(self, "labels", labels)
        if len(self.labels) != len(self.frames):
            raise TraceError(
                f"`labels` must be one per frame; {len(self.labels)} came for "
                f"{len(self.frames)} frames"
            )

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        inputs: Sequence[Sequence[Any]],
        labels: Sequence[str] = (),
    ) -> "Film":
        """Trace ``fn`` once for each set of inputs.

        Parameters
        ----------
        fn : callable
        inputs : sequence of sequences
            The arguments of each run.
        labels : sequence of str, optional
            One for each run; ``"step 0"``, ``"step 1"`` and so on when left out.

        Raises
        ------
        TraceError
            No inputs, or not one label for each.
        """
        from gradfit.graph.trace import trace

        return cls(tuple(trace(fn, *each) for each in inputs), tuple(labels))

    @cached_property
    def changes(self) -> tuple[int, ...]:
        """Frames whose structure differs from the frame before: a branch went the other way."""
        pairs = enumerate(pairwise(self.frames), start=1)
        return tuple(i for i, (one, two) in pairs if one.structure != two.structure)

    def __getitem__(self, index: int) -> Graph:
        return self.frames[index]

    def __iter__(self) -> Iterator[Graph]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def to_html(self, path: str | Path | None = None, *, detail: Detail | None = None) -> str:
        """Return one self-contained page with a slider; write it to ``path`` when one is given.

        Parameters
        ----------
        path : path, optional
        detail : "statement", "operation", "kernel" or None
            As for pictures.
        """
        from gradfit.graph import html

        return written(html.page(self, detail=detail), path)

    def show(self) -> None:
        """Open the page: in the notebook, or in a browser tab."""
        from gradfit.graph import html

        html.show(self)

    def _repr_html_(self) -> str:
        return self.frames[-1].to_svg()

    def __repr__(self) -> str:
        changed = f", structure changes at {list(self.changes)}" if self.changes else ""
        return f"Film of {self.frames[0].title}: {len(self)} frames{changed}"
