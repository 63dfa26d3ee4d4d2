"""Values of a trace: plain arrays that outlive the tensors they came from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray


class Stats(NamedTuple):
    """Least, greatest and mean of the finite entries, and how many are not finite.

    Complex numbers are summed up by their magnitudes. All three are NaN when nothing is finite.
    """

    low: float
    high: float
    mean: float
    n_nonfinite: int

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Stats":
        """Sum up an array of any dtype."""
        numbers = np.abs(values) if np.iscomplexobj(values) else values.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        if finite.size == 0:
            return cls(np.nan, np.nan, np.nan, numbers.size)
        with np.errstate(over="ignore"):
            mean = float(finite.mean())
        return cls(float(finite.min()), float(finite.max()), mean, numbers.size - finite.size)


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot(NDArrayOperatorsMixin):
    """A tensor as it was at one moment: value, gradient, or part of a gradient.

    Behaves as the array that it holds: comparison, arithmetic, indexing, formatting, ``float(s)``,
    ``np.asarray(s)``, ``torch.as_tensor(s)``. Results of arithmetic are NumPy's. Two snapshots are
    equal as values of ``==`` when shape, dtype and all entries are (NaN equals NaN), so that
    graphs can be compared; any other comparison goes entry by entry.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        As torch writes it, without ``torch.``: ``"float64"``, ``"bfloat16"``.
    device : str
        Where the tensor lived: ``"cpu"``, ``"cuda:0"``.
    values : ndarray or None
        A detached copy; ``None`` when the tensor was too big to keep or had no data. What NumPy
        lacks (bfloat16) is kept as float32.
    """

    shape: tuple[int, ...]
    dtype: str
    device: str
    values: NDArray[Any] | None
    given_stats: Stats | None = None

    @property
    def n(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def stats(self) -> Stats:
        """Least, greatest, mean, and the count of entries that are not finite."""
        if self.values is not None:
            return Stats.of(self.values)
        return self.given_stats or Stats(np.nan, np.nan, np.nan, 0)

    @property
    def brief(self) -> str:
        """A few characters for a card: one number, up to three, or ``low .. high``."""
        if self.n == 0:
            return "empty"
        if self.values is not None and self.dtype == "bool" and self.n > 1:
            return f"{int(self.values.sum())} of {self.n} true"
        if self.values is not None and self.n <= 3:
            texts = [number_text(v) for v in self.values.ravel()]
            return texts[0] if self.n == 1 else f"[{', '.join(texts)}]"
        low, high, _, bad = self.stats
        if self.values is None and self.given_stats is None:
            return "no data"
        span = number_text(low) if low == high else f"{number_text(low)} .. {number_text(high)}"
        if bad == self.n:
            return f"{bad} not finite"
        return f"{span} ({bad} not finite)" if bad else span

    def item(self) -> Any:
        """Return the only entry as a Python number."""
        return self.__array__().item()

    def to_dict(self, limit: int = 1000) -> dict[str, Any]:
        """Return plain JSON data; all entries in order when at most ``limit``, else statistics."""
        keep = self.values is not None and self.n <= limit
        return {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "device": self.device,
            "low": _plain(self.stats.low),
            "high": _plain(self.stats.high),
            "mean": _plain(self.stats.mean),
            "n_nonfinite": self.stats.n_nonfinite,
            "values": [_plain(v) for v in self.__array__().ravel().tolist()] if keep else None,
        }

    def tolist(self) -> Any:
        """Return the entries as nested lists, or the only one as a number."""
        return self.__array__().tolist()

    def numpy(self) -> NDArray[Any]:
        """Return a copy as an array."""
        return np.array(self.__array__())

    def tensor(self) -> "torch.Tensor":
        """Return a copy as a tensor of its own dtype, on the CPU.

        Examples
        --------
        >>> import torch
        >>> from gradfit.graph import trace
        >>> graph = trace(lambda a: a * 2, torch.ones(2, dtype=torch.bfloat16))
        >>> graph["a * 2"].value.tensor()
        tensor([2., 2.], dtype=torch.bfloat16)
        """
        return torch.from_numpy(self.numpy()).to(getattr(torch, self.dtype))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [each.__array__() if isinstance(each, Snapshot) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.__array__().__dlpack_device__()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a single number has no length")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return self.__array__()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__array__())

    def __bool__(self) -> bool:
        return bool(self.__array__())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __round__(self, digits: int | None = None) -> Any:
        return (
            round(self.item(), digits) if self.n == 1 else np.round(self.__array__(), digits or 0)
        )

    def __format__(self, spec: str) -> str:
        if not spec:
            return repr(self)
        if self.n == 1:
            return format(self.item(), spec)
        return np.array2string(self.__array__(), formatter={"all": lambda each: format(each, spec)})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self.values is None:
            kept = "only statistics were kept: trace with a larger `keep`"
            raise ValueError(f"{self}: {kept if self.given_stats else 'no values to read'}")
        return np.array(self.values, dtype=dtype, copy=copy)

    def __float__(self) -> float:
        return float(self.item())

    def __eq__(self, other: object) -> bool:
        if getattr(other, "__array_ufunc__", 0) is None:  # it says that it compares by itself
            return NotImplemented
        if not isinstance(other, Snapshot):
            return np.equal(self.__array__(), other)  # type: ignore[return-value] - entry by entry
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return False
        if self.values is None or other.values is None:
            return self.values is other.values and _same(self.stats[:3], other.stats[:3])
        return _same(self.values, other.values)

    def __ne__(self, other: object) -> bool:
        if getattr(other, "__array_ufunc__", 0) is None:
            return NotImplemented
        if isinstance(other, Snapshot):
            return not self == other
        return np.not_equal(self.__array__(), other)  # type: ignore[return-value]

    __hash__ = None  # type: ignore[assignment] - compared by value, and values are arrays

    def __repr__(self) -> str:
        return self.brief if self.n == 1 else f"{self.dtype} {self.shape}: {self.brief}"


def number_text(value: Any) -> str:
    """Write one number in at most four significant digits."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (complex, np.complexfloating)):
        return f"{complex(value):.4g}"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return f"{float(value) + 0.0:.4g}"  # + 0.0 turns -0.0 into 0.0


def _plain(value: Any) -> Any:
    """Write what JSON lacks (NaN, inf, complex) as text."""
    if isinstance(value, complex):
        return str(value)
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
