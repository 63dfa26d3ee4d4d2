"""What to do about a bad value or gradient, by the operation it was born in."""

POLES = ("log", "log2", "log10", "/", "div", "reciprocal", "rsqrt", "tan")
"""Operations whose values grow beyond all bounds at a point."""

DOMAIN = {
    "sqrt": "the square root needs numbers that are not negative",
    "log": "the logarithm needs positive numbers; log of 0 is -inf",
    "/": "do not divide by 0",
    "div": "do not divide by 0",
    "**": "a fractional power needs numbers that are not negative",
    "pow": "a fractional power needs numbers that are not negative",
    "acos": "the arc cosine needs numbers between -1 and 1",
    "asin": "the arc sine needs numbers between -1 and 1",
}
"""What to do about a value, by the operation that made it."""

SLOPE = {
    "sqrt": "the slope of sqrt at 0 is infinite: add a tiny number inside",
    "hypot": "the slope of hypot at (0, 0) is undefined: add a tiny number inside",
    "linalg_norm": "the slope of a norm at 0 is undefined: add a tiny number inside",
    "norm": "the slope of a norm at 0 is undefined: add a tiny number inside",
    "**": "the slope of a power below 1 at 0 is infinite: add a tiny number inside",
    "pow": "the slope of a power below 1 at 0 is infinite: add a tiny number inside",
    "acos": "the slope of acos at -1 and 1 is infinite: clamp just inside, or use atan2",
    "asin": "the slope of asin at -1 and 1 is infinite: clamp just inside, or use atan2",
    "atan2": "the angle of the point (0, 0) is undefined: keep away from it",
    "log": "the slope of log at 0 is infinite: add a tiny number inside",
    "/": "do not divide by 0",
}
"""What to do about a gradient that is not finite."""

FLAT = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "sign"), "it is flat: use a smooth form"),
    **dict.fromkeys(("clamp", "clip", "hardtanh"), "all values lie beyond the bound: widen it"),
    **dict.fromkeys(
        ("norm", "linalg_norm", "linalg_vector_norm", "hypot", "atan2", "std"),
        "it has no slope at this point, and torch takes 0: keep away from it",
    ),
    **dict.fromkeys(("relu", "threshold"), "every unit is off: start elsewhere or use leaky_relu"),
}
"""What to do about a gradient that became zero."""

CUT = {
    "detach": "leave out detach() where a gradient is wanted",
    "data": "leave out .data where a gradient is wanted",
    "item": "stay with tensors: item() leaves the graph",
    "numpy": "stay with tensors: numpy() leaves the graph",
    "tolist": "stay with tensors: tolist() leaves the graph",
    "float": "stay with tensors: float() leaves the graph",
    "array": "stay with tensors: NumPy leaves the graph",
    "argmax": "an index has no derivative: use softmax for a soft choice",
}
"""What to do about a gradient that was cut off."""
