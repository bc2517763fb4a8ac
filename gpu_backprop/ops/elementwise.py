"""Elementwise primitives and their gradients, one row each, alphabetical inside a group.

Sources: the derivative rules of elementary calculus; activations as PyTorch defines them. `g` is the gradient of the
output (see primitive.py for what a rule may name). Activations have their gradient as a primitive of its own, so that
it is one pass on every backend; that one differentiates through its unfused form where no closed rule is shorter.
"""

from __future__ import annotations

import cmath
import math

from .primitive import Primitive, Rule


def _unary(name: str, rule: Rule | None = None, promotes: str = "float") -> Primitive:
    return Primitive(name, "x", rule, promotes=promotes, gives="out")


def _exact(name: str, rule: Rule | None = None) -> Primitive:
    """A function that integers have too."""
    return Primitive(name, "x", rule, gives="out")


def _binary(name: str, *rules: Rule | None, promotes: str = "same") -> Primitive:
    return Primitive(name, "x y", *rules, promotes=promotes, gives="out")


# arithmetic ----------------------------------------------------------------------------------------------------------

add = _binary("add", lambda g: g, lambda g: g)
divide = _binary("divide", lambda g, y: g / y, lambda g, x, y: -g * (x / y) / y, promotes="float")
fmod = _binary("fmod", lambda g: g, lambda g, x, y: -g * trunc(x / y))
floor_divide = _binary("floor_divide", lambda g: g * 0, lambda g: g * 0)
multiply = _binary("multiply", lambda g, y: g * y, lambda g, x: g * x)
negative = _exact("negative", lambda g: -g)
pow = _binary("pow", lambda g, x, y: g * _power_slope(x, y), lambda g, x, y, out: g * out * _log_of_base(x, out))
reciprocal = _exact("reciprocal", lambda g, out: -g * out * out)
remainder = _binary("remainder", lambda g: g, lambda g, x, y: -g * floor(x / y))
square = _exact("square", lambda g, x: g * (x * 2))
subtract = _binary("subtract", lambda g: g, lambda g: -g)

# exponentials and logarithms -----------------------------------------------------------------------------------------

cbrt = _unary("cbrt", lambda g, out: g / (out * out * 3), promotes="real")
exp = _unary("exp", lambda g, out: g * out)
exp2 = _unary("exp2", lambda g, out: g * out * math.log(2), promotes="real")
expm1 = _unary("expm1", lambda g, out: g * (out + 1))
log = _unary("log", lambda g, x: g / x)
log10 = _unary("log10", lambda g, x: g / (x * math.log(10)))
log1p = _unary("log1p", lambda g, x: g / (x + 1))
log2 = _unary("log2", lambda g, x: g / (x * math.log(2)))
logaddexp = _binary(
    "logaddexp", lambda g, x, y: g / (exp(y - x) + 1), lambda g, x, y: g / (exp(x - y) + 1), promotes="real"
)
logaddexp2 = _binary(
    "logaddexp2", lambda g, x, y: g / (exp2(y - x) + 1), lambda g, x, y: g / (exp2(x - y) + 1), promotes="real"
)
sqrt = _unary("sqrt", lambda g, out: g / (out * 2))
# of a variance: at 0, where all elements equal their mean, the gradient of a standard deviation is taken to be 0
sqrt_of_variance = _unary("sqrt", lambda g, out: g / (_positive(out) * 2))

# trigonometric and hyperbolic ----------------------------------------------------------------------------------------

acos = _unary("acos", lambda g, x: -g / sqrt(1 - x * x))
acosh = _unary("acosh", lambda g, x: g / (sqrt(x - 1) * sqrt(x + 1)))  # not sqrt(x^2 - 1): of another sign at -2i
asin = _unary("asin", lambda g, x: g / sqrt(1 - x * x))
asinh = _unary("asinh", lambda g, x: g / _length(x))
atan = _unary("atan", lambda g, x: g / (x * x + 1))
# of these two at the origin, where there is no gradient, 0; divided twice, as squares of 1e-30 or 1e30 leave float32
atan2 = _binary(
    "atan2",
    lambda g, x, y: _over(g, y, hypot(x, y)),
    lambda g, x, y: -_over(g, x, hypot(x, y)),
    promotes="real",
)
atanh = _unary("atanh", lambda g, x: g / (1 - x * x))
cos = _unary("cos", lambda g, x: -g * sin(x))
cosh = _unary("cosh", lambda g, x: g * sinh(x))
hypot = _binary(
    "hypot", lambda g, x, out: g * x / _positive(out), lambda g, y, out: g * y / _positive(out), promotes="real"
)
sin = _unary("sin", lambda g, x: g * cos(x))
sinc = Primitive("sinc", "x", lambda g, x: g * _sinc_slope(x), promotes="real")
sinh = _unary("sinh", lambda g, x: g * cosh(x))
tan = _unary("tan", lambda g, out: g * (out * out + 1))
tanh = _unary("tanh", lambda g, out: tanh_backward(g, out))
tanh_backward = Primitive(
    "tanh_backward", "g_ out_",
    lambda g, out_: tanh_backward(g, out_),
    lambda g, g_, out_: g * g_ * out_ * -2,
    gives="out",
)  # fmt: skip

# rounding, signs and order -------------------------------------------------------------------------------------------

abs = _exact("abs", lambda g, x: g * conjugate(sign(x)))
ceil = _exact("ceil", lambda g: g * 0)
copysign = _binary("copysign", lambda g, x, y: g * (sign(x) * copysign(1, y)), lambda g, y: g * y * 0, promotes="real")
floor = _exact("floor", lambda g: g * 0)
# the other operand beside a NaN
fmax = _binary(
    "fmax", lambda g, x, y: g * _share(x, y) * ~isnan(x), lambda g, x, y: g * where(isnan(x), 1.0, 1 - _share(x, y))
)
fmin = _binary(
    "fmin", lambda g, x, y: g * _share(y, x) * ~isnan(x), lambda g, x, y: g * where(isnan(x), 1.0, 1 - _share(y, x))
)
heaviside = _binary("heaviside", lambda g: g * 0, lambda g, x: g * where(equal(x, 0), 1.0, 0.0), promotes="real")
# the gradient of a tie is shared evenly
maximum = _binary("maximum", lambda g, x, y: g * _share(x, y), lambda g, x, y: g * _share(y, x))
minimum = _binary("minimum", lambda g, x, y: g * _share(y, x), lambda g, x, y: g * _share(x, y))
nextafter = _binary("nextafter", lambda g: g, lambda g: g * 0, promotes="real")
round = _exact("round", lambda g: g * 0)
sign = _exact("sign", lambda g, x: _pull_sign(g, x))
trunc = _exact("trunc", lambda g: g * 0)
clip = Primitive(
    "clip", "x lo hi",
    lambda g, x, lo, hi: where(logical_and(greater_equal(x, lo), less_equal(x, hi)), g, 0),
    lambda g, x, lo, hi: where(logical_and(less(x, lo), less_equal(lo, hi)), g, 0),
    lambda g, x, lo, hi: where(logical_or(greater(x, hi), greater(lo, hi)), g, 0),
    promotes="same", gives="out",
)  # fmt: skip
where = Primitive(
    "where", "condition x y",
    None,
    lambda g, condition: where(condition, g, 0),
    lambda g, condition: where(condition, 0, g),
    promotes="same", promotes_from=1, gives="out",
)  # fmt: skip

# parts of complex numbers ---------------------------------------------------------------------------------------------

conj = _exact("conj", lambda g: conjugate(g))
imag = Primitive("imag", "x", lambda g: g * -1j, gives="view")
real = Primitive("real", "x", lambda g: g, gives="view")  # the tape makes g complex

# without a gradient --------------------------------------------------------------------------------------------------

equal, greater, greater_equal, less, less_equal, not_equal = map(
    _binary, ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")
)
logical_and, logical_or, logical_xor = (Primitive(f"logical_{n}", "x y", gives="out") for n in ("and", "or", "xor"))
bitwise_and, bitwise_or, bitwise_xor, bitwise_left_shift, bitwise_right_shift = (
    _binary(f"bitwise_{n}") for n in ("and", "or", "xor", "left_shift", "right_shift")
)
bitwise_invert, isfinite, isinf, isnan, logical_not, signbit = map(
    _exact, ("bitwise_invert", "isfinite", "isinf", "isnan", "logical_not", "signbit")
)

# activations ---------------------------------------------------------------------------------------------------------

relu = _exact("relu", lambda g, out: relu_backward(g, out))
relu_backward = Primitive("relu_backward", "g_ out_", lambda g, out_: relu_backward(g, out_), None, gives="out")

sigmoid = _unary("sigmoid", lambda g, out: sigmoid_backward(g, out), promotes="real")
sigmoid_backward = Primitive(
    "sigmoid_backward", "g_ out_",
    lambda g, out_: sigmoid_backward(g, out_),
    lambda g, g_, out_: g * g_ * (1 - out_ * 2),
    gives="out",
)  # fmt: skip

leaky_relu = _unary(
    "leaky_relu", lambda g, x, negative_slope: leaky_relu_backward(g, x, negative_slope=negative_slope), promotes="real"
)
leaky_relu_backward = Primitive(
    "leaky_relu_backward", "g_ x",
    lambda g, x, negative_slope: leaky_relu_backward(g, x, negative_slope=negative_slope),
    None,
    gives="out",
)  # fmt: skip

elu = _unary("elu", lambda g, x, alpha: elu_backward(g, x, alpha=alpha), promotes="real")
elu_backward = Primitive(
    "elu_backward", "g_ x", gives="out",
    unfused=lambda g_, x, alpha: g_ * where(greater(x, 0), 1, exp(minimum(x, 0)) * alpha),
)  # fmt: skip

gelu = _unary("gelu", lambda g, x, approximate: gelu_backward(g, x, approximate=approximate), promotes="real")
gelu_backward = Primitive(
    "gelu_backward", "g_ x", gives="out",
    unfused=lambda g_, x, approximate: g_ * (_gelu_slope_tanh(x) if approximate == "tanh" else _gelu_slope_erf(x)),
)  # fmt: skip

silu = _unary("silu", lambda g, x: silu_backward(g, x), promotes="real")
silu_backward = Primitive(
    "silu_backward", "g_ x", gives="out",
    unfused=lambda g_, x: g_ * sigmoid(x) * (1 + x * sigmoid(-x)),
)  # fmt: skip

softplus = _unary(
    "softplus", lambda g, x, beta, threshold: softplus_backward(g, x, beta=beta, threshold=threshold), promotes="real"
)
softplus_backward = Primitive(
    "softplus_backward", "g_ x", gives="out",
    unfused=lambda g_, x, beta, threshold: g_ * where(greater(x * beta, threshold), 1, sigmoid(x * beta)),
)  # fmt: skip

erf = _unary("erf", lambda g, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)), promotes="real")


def _sinc_slope(x):
    """(cos u - sin u / u) / x with u = pi x; near 0, where its digits cancel, the power series in u."""
    u = x * math.pi
    near = less(abs(u), 0.7)
    v = where(near, u, 0.0)
    w, series = v * v, 0.0
    for n in range(8, 0, -1):  # the derivative of sum_n (-1)^n u^(2n) / (2n + 1)!
        series = series * w + (-1) ** n * 2 * n / math.factorial(2 * n + 1)
    far = where(near, 1.0, u)
    return where(near, series * v, (cos(far) - sin(far) / far) / far) * math.pi


def _positive(x):
    """x, with infinity in place of 0: a quotient by it is 0 there, and so are its derivatives."""
    return where(equal(x, 0), float("inf"), x)


def _over(g, x, length):
    """g x / length^2."""
    length = _positive(length)
    return g * (x / length) / length


def _length(x):
    """sqrt(x^2 + 1), of real numbers also where x^2 is infinite."""
    return sqrt(x * x + 1) if x.dtype.kind == "c" else hypot(x, 1)


def conjugate(x):
    """The complex conjugate; real numbers as they are."""
    return conj(x) if x.dtype.kind == "c" else x


def _pull_sign(g, x):
    """0; of a complex z, whose sign s = z / |z| turns with it, (g - conj(g s^2)) / (2 |z|)."""
    if x.dtype.kind != "c":
        return g * 0
    s = sign(x)
    return (g - conj(g * s * s)) / (_positive(abs(x)) * 2)


def _is_scalar(x: object) -> bool:
    return isinstance(x, (int, float, complex))


def _power_slope(x, y):
    """y x^(y - 1); 0 where y is 0, at x = 0 too."""
    if _is_scalar(y):
        return y * x ** (y - 1) if y else 0.0
    return y * x ** where(equal(y, 0), 1, y - 1)


def _log_of_base(x, out):
    """log x; 0 at x = 0, where x^y log x tends to 0 for the y that have a derivative there."""
    if _is_scalar(x):
        if x == 0:
            return 0.0
        return cmath.log(x) if out.dtype.kind == "c" else math.log(x) if x > 0 else math.nan
    return log(where(equal(x, 0), 1, x))


def _share(x, y):
    """0 where x < y, a half where they are equal, else 1: beside a NaN each takes the whole gradient, as in PyTorch."""
    return where(less(x, y), 0.0, where(equal(x, y), 0.5, 1.0))


def _gelu_slope_erf(x):
    """Phi(x) + x phi(x): the standard normal distribution and its density (Hendrycks & Gimpel, arXiv:1606.08415)."""
    return (erf(x * math.sqrt(0.5)) + 1) * 0.5 + x * exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


def _gelu_slope_tanh(x):
    """The derivative of x/2 (1 + tanh(c (x + 0.044715 x^3))), c = sqrt(2 / pi)."""
    c = math.sqrt(2 / math.pi)
    t = tanh((x + x * x * x * 0.044715) * c)
    return (t + 1) * 0.5 + x * (1 - t * t) * (x * x * (3 * 0.044715) + 1) * (0.5 * c)
