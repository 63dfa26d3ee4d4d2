"""What people hand over by mistake, or by malice, each made anew so that no call spoils another."""

import datetime
import warnings
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import polars as pl
import torch

Pool = dict[str, Callable[[], Any]]
N = 6
"""Points of the calls that are spoilt."""


class Quantity:
    """Numbers with a unit, as astropy (`unit`) has them."""

    unit = "mV"

    def __init__(self, value: Any = 1.0) -> None:
        self.value = np.asarray(value, dtype=np.float64)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.value

    def __float__(self) -> float:
        return float(self.value)


class Pint(Quantity):
    """The same as pint (`units`, `magnitude`) has them."""

    unit = None
    units = "mV"


class Uncertain:
    """A number with an error, as the package `uncertainties` has it."""

    nominal_value, std_dev = 1.0, 0.1

    def __float__(self) -> float:
        raise TypeError("can't convert an affine function to float")


class Raises:
    """Something that fails however it is looked at."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no array\nfor you")

    def __float__(self) -> float:
        raise ZeroDivisionError("no number")

    def __iter__(self) -> Any:
        raise KeyError("no items")

    def __len__(self) -> int:
        raise OSError("no length")


class LongName:
    """Something whose text is long and has many lines."""

    def __repr__(self) -> str:
        return "line\n" * 500


def _matrix() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asmatrix(np.ones((1, N)))


def _masked() -> Any:
    return np.ma.masked_greater(np.arange(float(N)), 3)


NUMBERS: Pool = {
    "zero": lambda: 0,
    "minus_one": lambda: -1,
    "one": lambda: 1,
    "two_and_a_half": lambda: 2.5,
    "minus_zero": lambda: -0.0,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "minus_inf": lambda: float("-inf"),
    "tiny": lambda: 5e-324,
    "small": lambda: 1e-160,
    "huge": lambda: 1e308,
    "beyond": lambda: 10**400,
    "minus_beyond": lambda: -(10**400),
    "long_integer": lambda: 2**63,
    "true": lambda: True,
    "numpy_true": lambda: np.True_,
    "complex": lambda: 1j,
    "decimal": lambda: Decimal("1.5"),
    "decimal_nan": lambda: Decimal("sNaN"),
    "fraction": lambda: Fraction(1, 3),
    "numpy_float": lambda: np.float64(0.5),
    "numpy_float32": lambda: np.float32(0.5),
    "numpy_longdouble": lambda: np.longdouble("1e400"),
    "numpy_int": lambda: np.int8(3),
    "tensor_number": lambda: torch.tensor(0.5),
    "tensor_grad": lambda: torch.tensor(0.5, requires_grad=True),
    "zero_d": lambda: np.array(0.5),
    "zero_d_object": lambda: np.array(None),
}
ARRAYS: Pool = {
    "ones": lambda: np.ones(N),
    "zeros": lambda: np.zeros(N),
    "line": lambda: np.arange(float(N)),
    "negative": lambda: -np.ones(N),
    "one_nan": lambda: np.array([1.0, 2, np.nan, 4, 5, 6]),
    "one_inf": lambda: np.array([1.0, 2, np.inf, 4, 5, 6]),
    "all_nan": lambda: np.full(N, np.nan),
    "huge_values": lambda: np.full(N, 1e308) * np.array([1, -1] * 3),
    "tiny_values": lambda: np.arange(float(N)) * 5e-324,
    "list": lambda: [1.0, 2, 3, 4, 5, 6],
    "tuple": lambda: (1, 2, 3, 4, 5, 7),
    "range": lambda: range(N),
    "generator": lambda: (float(i) for i in range(N)),
    "set": lambda: {1.0, 2.0},
    "map": lambda: map(float, range(N)),
    "empty_list": lambda: [],
    "empty": lambda: np.empty(0),
    "empty_rows": lambda: np.empty((0, N)),
    "empty_points": lambda: np.empty((2, 0)),
    "one_value": lambda: [1.0],
    "reversed_one": lambda: np.array([2.0])[::-1],
    "reversed": lambda: np.arange(float(N))[::-1],
    "every_second": lambda: np.arange(2.0 * N)[::2],
    "too_short": lambda: np.ones(N - 1),
    "two_rows": lambda: np.arange(2.0 * N).reshape(2, N),
    "transposed": lambda: np.arange(2.0 * N).reshape(N, 2),
    "fortran": lambda: np.asfortranarray(np.arange(2.0 * N).reshape(2, N)),
    "column": lambda: np.ones((N, 1)),
    "three_axes": lambda: np.ones((N, 2, 2)),
    "identity": lambda: np.eye(2),
    "negative_matrix": lambda: -np.eye(2),
    "skew_matrix": lambda: np.array([[1.0, 2.0], [0.0, 1.0]]),
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "nested_empty": lambda: [[]],
    "with_none": lambda: [1.0, None, 3, 4, 5, 6],
    "with_text": lambda: [1.0, "2", 3, 4, 5, 6],
    "texts": lambda: list("abcdef"),
    "numbers_as_text": lambda: ["1", "2", "3", "4", "5", "6"],
    "bytes_array": lambda: np.array([b"1"] * N),
    "objects": lambda: np.array([1.0, Decimal(2), Fraction(3), 4, 5, 6], dtype=object),
    "bools": lambda: np.array([True, False] * 3),
    "bool_list": lambda: [True, False] * 3,
    "complexes": lambda: np.ones(N) * 1j,
    "dates": lambda: np.arange("2024-01-01", "2024-01-07", dtype="datetime64[D]"),
    "timedeltas": lambda: np.arange(N).astype("timedelta64[s]"),
    "python_dates": lambda: [datetime.date(2024, 1, d + 1) for d in range(N)],
    "structured": lambda: np.zeros(N, dtype=[("x", float), ("y", float)]),
    "masked": _masked,
    "masked_all": lambda: np.ma.masked_all(N),
    "float32": lambda: np.arange(N, dtype=np.float32),
    "float16": lambda: np.arange(N, dtype=np.float16),
    "big_endian": lambda: np.arange(N).astype(">f8"),
    "unsigned": lambda: np.arange(N, dtype=np.uint64),
    "longdouble": lambda: np.arange(N, dtype=np.longdouble),
    "read_only": lambda: np.broadcast_to(np.float64(1.0), (N,)),
    "matrix_class": _matrix,
    "memoryview": lambda: memoryview(np.arange(float(N))),
    "huge_integers": lambda: [10**400] + [1] * (N - 1),
    "tensor": lambda: torch.arange(N, dtype=torch.float64),
    "tensor_float32": lambda: torch.arange(N, dtype=torch.float32),
    "tensor_int": lambda: torch.arange(N),
    "tensor_bool": lambda: torch.ones(N, dtype=torch.bool),
    "tensor_complex": lambda: torch.ones(N, dtype=torch.complex128),
    "tensor_half": lambda: torch.ones(N, dtype=torch.bfloat16),
    "tensor_with_grad": lambda: torch.arange(N, dtype=torch.float64).requires_grad_(),
    "tensor_empty": lambda: torch.empty(0),
    "tensor_meta": lambda: torch.empty(N, device="meta"),
    "tensor_sparse": lambda: torch.eye(N).to_sparse(),
    "tensor_flipped": lambda: torch.arange(N, dtype=torch.float64).flip(0),
    "tensor_strided": lambda: torch.arange(2.0 * N, dtype=torch.float64)[::2],
    "list_of_tensors": lambda: [torch.tensor(float(i), requires_grad=True) for i in range(N)],
    "list_of_arrays": lambda: [np.array(float(i)) for i in range(N)],
    "quantity": lambda: Quantity(np.arange(float(N))),
    "pint": lambda: Pint(np.arange(float(N))),
    "uncertain": lambda: [Uncertain() for _ in range(N)],
    "list_of_quantities": lambda: [Quantity(float(i)) for i in range(N)],
}
TEXTS: Pool = {
    "empty_text": lambda: "",
    "blank": lambda: "  ",
    "word": lambda: "x",
    "column": lambda: "u",
    "other_word": lambda: "nonsense",
    "number_text": lambda: "1.5",
    "surrogate": lambda: "\ud800",
    "nul": lambda: "a\0b",
    "two_lines": lambda: "a\nb",
    "escape": lambda: "\x1b[31mred",
    "mathtext": lambda: "$x^{$",
    "long_text": lambda: "a" * 5000,
    "bytes": lambda: b"x",
    "cuda": lambda: "cuda:99",
    "meta": lambda: "meta",
    "percent": lambda: "%s {} {0} \\",
}
MAPPINGS: Pool = {
    "empty_mapping": dict,
    "a_and_b": lambda: {"a": 1.0, "b": 2.0},
    "only_a": lambda: {"a": 1.0},
    "unknown": lambda: {"zeta": 1.0},
    "no_text_key": lambda: {1: 1.0, 2: 2.0},
    "none_key": lambda: {None: 1.0, "b": 2.0},
    "text_value": lambda: {"a": "one", "b": 2.0},
    "none_value": lambda: {"a": None, "b": None},
    "nan_value": lambda: {"a": float("nan"), "b": 1.0},
    "list_value": lambda: {"a": [1.0, 2.0], "b": 1.0},
    "beyond_value": lambda: {"a": 10**400, "b": 1.0},
    "complex_value": lambda: {"a": 1j, "b": 1.0},
    "tensor_value": lambda: {"a": torch.tensor(1.0, requires_grad=True), "b": 1.0},
    "quantity_value": lambda: {"a": Quantity(1.0), "b": 1.0},
    "uncertain_value": lambda: {"a": Uncertain(), "b": 1.0},
    "pairs": lambda: {"a": (0, 5), "b": (None, None)},
    "falling_pairs": lambda: {"a": (5, 0)},
    "text_pairs": lambda: {"a": ("0", "5"), "b": "xy"},
    "three_in_pair": lambda: {"a": (0, 1, 2)},
    "list_of_mappings": lambda: [{"x": 0.1}, {"y": [0.1] * N}],
    "list_of_pairs": lambda: [("a", 1.0), ("b", 2.0)],
    "raises_value": lambda: {"a": Raises(), "b": 1.0},
    "huge_start": lambda: {"a": 1e300, "b": -1e300},
    "tiny_start": lambda: {"a": 1e-300, "b": 1e-300},
}
OTHERS: Pool = {
    "none": lambda: None,
    "false": lambda: False,
    "object": object,
    "type": lambda: int,
    "function": lambda: len,
    "lambda": lambda: lambda *a: None,
    "ellipsis": lambda: ...,
    "raises": Raises,
    "long_name": LongName,
    "module": lambda: np,
    "linear_layer": lambda: torch.nn.Linear(1, 1),
    "dtype": lambda: torch.float64,
    "slice": lambda: slice(1, 2),
    "exception": lambda: ValueError("x"),
    "generator_of_numpy": lambda: np.random.default_rng(1),
}
_TOKENS = [
    *("x", "a", "b", "c", "y", "1", "2.5", "1e-3", "0", "1e400", "exp", "log", "sqrt", "sin"),
    *("+", "-", "*", "/", "**", "^", "(", ")", ",", "[", "]", "[0]", ".", ">", "<", "==", "and"),
    *("if", "else", "lambda", ":", "'", '"', "__class__", "import", " ", "\n", "pi", "e", "abs"),
    *("where", "min", "max", "½", "·", "²", "\ud800", "\0", "a b", "exp(", "x)", "(c>c)", "pi[0]"),
    *("a*x", "b", "a*exp(-b*x)", "~", "!", "@", "%", "//", "|", "&", "=", ":=", "*a", "**b", "#"),
]


def formula(rng: Random) -> str:
    """Return something that may be a formula."""
    return "".join(rng.choices(_TOKENS, k=rng.randint(1, 8)))


MODELS: Pool = {
    "formula": lambda: "a + b*x",
    "constant": lambda: "a + 0*x",
    "one_parameter": lambda: "a*x",
    "no_parameter": lambda: "2*x",
    "no_data": lambda: "a + b",
    "builtin": lambda: "line",
    "no_builtin": lambda: "lien",
    "several": lambda: "a*x, b*x",
    "numpy_function": lambda: lambda x, a, b: np.exp(x) * a + b,
    "numbers_only": lambda: lambda x, a, b: 1.0,
    "fails": lambda: lambda x, a, b: 1 / 0,
    "fails_late": lambda: lambda x, a, b: (a * x)[99],
    "mixes": lambda: lambda x, a, b: a * x.sum() + b,
    "cut": lambda: lambda x, a, b: a.detach() * x + b,
    "nan_function": lambda: lambda x, a, b: a * x * float("nan") + b,
    "wrong_shape": lambda: lambda x, a, b: (a * x + b)[:2],
    "tuple_function": lambda: lambda x, a, b: (a * x, b),
    "no_arguments": lambda: lambda: 1,
    "stars": lambda: lambda x, *p: x,
    "default_text": lambda: lambda x, a="b": x,
    "float32_function": lambda: lambda x, a, b: (a * x + b).float(),
    "integer_function": lambda: lambda x, a, b: (a * x + b).long(),
    "class": lambda: dict,
    "good_function": lambda: lambda x, a, b: a * torch.exp(-b * x),
}
POOLS: Mapping[str, Pool] = {
    "array": ARRAYS | NUMBERS,
    "number": NUMBERS | OTHERS,
    "text": TEXTS | OTHERS,
    "mapping": MAPPINGS,
    "model": MODELS,
    "table": {
        "frame_of_wrong_kind": lambda: [1, 2, 3],
        "no_columns": dict,
        "unequal": lambda: {"u": [1, 2], "v": [1, 2, 3]},
        "number_columns": lambda: {1: [1.0], 2: [2.0]},
        "structured": ARRAYS["structured"],
        "quantities": lambda: {"u": Quantity(np.arange(float(N))), "v": np.arange(float(N))},
        "polars": lambda: pl.DataFrame({"u": range(N), "v": [None] * N}),
        "object_columns": lambda: {"u": [object()] * N, "v": list("abcdef")},
        "good": lambda: {"u": list(range(N)), "v": [1, 3.2, 5, 6.9, 9, 11.1]},
    },
}
ANY: Pool = {k: v for pool in (*POOLS.values(), TEXTS, OTHERS) for k, v in pool.items()}
