"""The formulas of the story, each as a line of text and as MathML."""

from gradfit.app.story.blocks import Formula


def _i(*names: str) -> str:
    return "".join(f"<mi>{name}</mi>" for name in names)


def _o(sign: str) -> str:
    return f"<mo>{sign}</mo>"


def _n(value: int) -> str:
    return f"<mn>{value}</mn>"


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _over(top: str, bottom: str) -> str:
    return f"<mfrac>{_row(top)}{_row(bottom)}</mfrac>"


def _squared(inner: str) -> str:
    return f"<msup>{_row(inner)}{_n(2)}</msup>"


def _part(name: str) -> str:
    return _over(_o("∂") + _i("L"), _o("∂") + _i(name))


_R = "<msub><mi>r</mi><mi>i</mi></msub>"
_X, _Y = _R.replace(">r<", ">x<"), _R.replace(">r<", ">y<")
_ONE = _squared(_i("a")) + _o("+") + _n(1)
_MEAN = _over(_n(1), _i("N")) + "<munder><mo>∑</mo><mi>i</mi></munder>"

LOSS = Formula(
    "L(a, b) = 1/N Σ rᵢ² / (a² + 1),   rᵢ = a xᵢ − yᵢ + b",
    _i("L") + _o("=") + _MEAN + _over(_squared(_R), _ONE) + _o(",") + '<mspace width="1.6em"/>'
    + _R + _o("=") + _i("a") + _X + _o("−") + _Y + _o("+") + _i("b"),
)  # fmt: skip

BY_A = Formula(
    "∂L/∂a = 1/N Σ [ 2 rᵢ xᵢ / (a² + 1)  −  2 a rᵢ² / (a² + 1)² ]",
    _part("a") + _o("=") + _MEAN + _row(
        _o("["), _over(_n(2) + _R + _X, _ONE), _o("−"),
        _over(_n(2) + _i("a") + _squared(_R), _squared(_o("(") + _ONE + _o(")"))), _o("]"),
    ),
)  # fmt: skip

BY_B = Formula(
    "∂L/∂b = 1/N Σ 2 rᵢ / (a² + 1)",
    _part("b") + _o("=") + _MEAN + _over(_n(2) + _R, _ONE),
)
