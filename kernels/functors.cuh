// The elementwise operations, apart from the memory they are applied to. One line an operation:
// operands x, y, z, w of type A (float or double: the accumulation type), an expression, a result of type A or bool.
// An operand that is a parameter (slope, alpha, beta, threshold) is simply given as a number. NumPy's rules for NaN,
// infinities and signed zeros; array API names in CamelCase.
#pragma once

#include "common.cuh"

template <int N> struct Same {  // N operands of type T -> T
    static constexpr int operands = N;
    template <class T> using First = T;
    template <class T> using Result = T;
};
template <int N> struct Truth : Same<N> {  // N operands of type T -> bool
    template <class T> using Result = bool;
};

#define UNARY(Name, ...) struct Name : Same<1> { template <class A> __device__ static A apply(A x) { __VA_ARGS__; } };
#define BINARY(Name, ...) struct Name : Same<2> { template <class A> __device__ static A apply(A x, A y) { __VA_ARGS__; } };
#define TEST(Name, ...) struct Name : Truth<1> { template <class A> __device__ static bool apply(A x) { __VA_ARGS__; } };
#define COMPARE(Name, ...) struct Name : Truth<2> { template <class A> __device__ static bool apply(A x, A y) { __VA_ARGS__; } };
#define TERNARY(Name, ...) struct Name : Same<3> { template <class A> __device__ static A apply(A x, A y, A z) { __VA_ARGS__; } };

// an operation of as many operands as it takes
template <class Op, class X, class A> __device__ inline auto apply(X x, A y, A z, A w) {
    if constexpr (Op::operands == 1) return Op::apply(x);
    else if constexpr (Op::operands == 2) return Op::apply(x, y);
    else if constexpr (Op::operands == 3) return Op::apply(x, y, z);
    else return Op::apply(x, y, z, w);
}

// ---------------------------------------------------------------------------------------------------------------------
// copies and casts

UNARY(Copy, return x)

template <class To> struct Cast : Same<1> {
    template <class T> using Result = To;
    template <class A> __device__ static A apply(A x) { return x; }  // narrow<To> at the store does the work
};

// ---------------------------------------------------------------------------------------------------------------------
// arithmetic

UNARY(Abs, return fabs(x))
UNARY(Negative, return -x)
UNARY(Reciprocal, return A(1) / x)
UNARY(Sign, return x > A(0) ? A(1) : x < A(0) ? A(-1) : x == A(0) ? A(0) : x)
UNARY(Sqrt, return sqrt(x))
UNARY(Square, return x * x)

BINARY(Add, return x + y)
BINARY(CopySign, return copysign(x, y))
BINARY(Divide, return x / y)
BINARY(Hypot, return hypot(x, y))
BINARY(Maximum, return max_nan(x, y))
BINARY(Minimum, return min_nan(x, y))
BINARY(Multiply, return x * y)
BINARY(Pow, return pow(x, y))
BINARY(Subtract, return x - y)

// Python's and NumPy's: the remainder has the divisor's sign, the quotient is rounded down; of infinities the limits,
// as the array API standard wants them
BINARY(FloorDivide,
    if (y == A(0) || isinf(x) || isinf(y)) return x / y;
    A rest = fmod(x, y);
    A quotient = (x - rest) / y;
    if (rest != A(0) && (y < A(0)) != (rest < A(0))) quotient -= A(1);
    if (quotient == A(0)) return copysign(A(0), x / y);
    A down = floor(quotient);
    return quotient - down > A(0.5) ? down + A(1) : down)
BINARY(Remainder,
    A rest = fmod(x, y);
    if (y == A(0)) return rest;
    if (rest == A(0)) return copysign(A(0), y);
    return (y < A(0)) != (rest < A(0)) ? rest + y : rest)

// ---------------------------------------------------------------------------------------------------------------------
// exponentials and their kin, logarithms, trigonometry, rounding

UNARY(Erf, return erf(x))
UNARY(Exp, return exp(x))
UNARY(Expm1, return expm1(x))
UNARY(Log, return log(x))
UNARY(Log10, return log10(x))
UNARY(Log1p, return log1p(x))
UNARY(Log2, return log2(x))
BINARY(LogAddExp,
    if (x == y) return x + A(0.693147180559945309417);  // equal infinities too, whose difference is NaN
    A difference = x - y;
    return (difference > A(0) ? x : y) + log1p(exp(-fabs(difference))))

UNARY(Acos, return acos(x))
UNARY(Acosh, return acosh(x))
UNARY(Asin, return asin(x))
UNARY(Asinh, return asinh(x))
UNARY(Atan, return atan(x))
UNARY(Atanh, return atanh(x))
UNARY(Cos, return cos(x))
UNARY(Cosh, return cosh(x))
UNARY(Sin, return sin(x))
UNARY(Sinh, return sinh(x))
UNARY(Tan, return tan(x))
UNARY(Tanh, return tanh(x))
BINARY(Atan2, return atan2(x, y))

UNARY(Ceil, return ceil(x))
UNARY(Floor, return floor(x))
UNARY(Round, return rint(x))  // halves to even
UNARY(Trunc, return trunc(x))

// The neighbour of x in the direction of y, among the numbers of the storage type T: one step of its bits, whose order is
// that of the magnitudes.
template <class T> struct NextAfter : Same<2> {
    template <class A> __device__ static A apply(A x, A y) {
        if (x != x || y != y) return x + y;
        if (x == y) return y;
        BitsOf<T> bits;
        T value = narrow<T>(x);
        memcpy(&bits, &value, sizeof(T));
        if (x == A(0)) bits = BitsOf<T>(1) | (y < A(0) ? BitsOf<T>(BitsOf<T>(1) << (8 * sizeof(T) - 1)) : BitsOf<T>(0));
        else if ((x < y) == (x > A(0))) ++bits;
        else --bits;
        memcpy(&value, &bits, sizeof(T));
        return widen(value);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// comparisons, questions and choices

COMPARE(Equal, return x == y)
COMPARE(Greater, return x > y)
COMPARE(GreaterEqual, return x >= y)
COMPARE(Less, return x < y)
COMPARE(LessEqual, return x <= y)
COMPARE(NotEqual, return x != y)

COMPARE(LogicalAnd, return x != A(0) && y != A(0))
COMPARE(LogicalOr, return x != A(0) || y != A(0))
COMPARE(LogicalXor, return (x != A(0)) != (y != A(0)))

TEST(IsFinite, return x - x == A(0))
TEST(IsInf, return x == x && x - x != A(0))
TEST(IsNan, return x != x)
TEST(LogicalNot, return x == A(0))
TEST(SignBit, return copysign(A(1), x) < A(0))

TERNARY(Clip, return min_nan(max_nan(x, y), z))

struct Where : Same<3> {
    template <class T> using First = bool;
    template <class A> __device__ static A apply(bool condition, A y, A z) { return condition ? y : z; }
};

// ---------------------------------------------------------------------------------------------------------------------
// activations, and their gradients: there x is the gradient of the output, y what the forward pass saved

template <class A> __device__ inline A logistic(A x) {  // never exp() of a large positive number
    A e = exp(-fabs(x));
    return (x >= A(0) ? A(1) : e) / (A(1) + e);
}

UNARY(Relu, return (x > A(0) || x != x) ? x : A(0))
UNARY(Sigmoid, return logistic(x))
UNARY(Silu, return x * logistic(x))
UNARY(Gelu, return A(0.5) * x * erfc(x * A(-0.70710678118654752440)))
UNARY(GeluTanh,  // Hendrycks and Gimpel's approximation, 2016
    A inner = A(0.79788456080286535588) * (x + A(0.044715) * x * x * x);
    return A(0.5) * x * (A(1) + tanh(inner)))
BINARY(LeakyRelu, return x > A(0) ? x : x * y)         // y: negative_slope
BINARY(Elu, return x > A(0) ? x : y * expm1(x))        // y: alpha
TERNARY(Softplus, return x * y > z ? x : log1p(exp(x * y)) / y)  // y: beta, z: threshold

BINARY(ReluBackward, return y > A(0) ? x : A(0))                  // y: out
BINARY(TanhBackward, return x * (A(1) - y * y))                   // y: out
BINARY(SigmoidBackward, return x * (y * (A(1) - y)))              // y: out
BINARY(SiluBackward, A s = logistic(y); return x * (s * (A(1) + y * (A(1) - s))))
BINARY(GeluBackward,  // cdf(y) + y * pdf(y)
    A cdf = A(0.5) * erfc(y * A(-0.70710678118654752440));
    A pdf = A(0.39894228040143267794) * exp(A(-0.5) * y * y);
    return x * (cdf + y * pdf))
BINARY(GeluTanhBackward,
    A t = tanh(A(0.79788456080286535588) * (y + A(0.044715) * y * y * y));
    A slope = A(0.79788456080286535588) * (A(1) + A(3 * 0.044715) * y * y);
    return x * (A(0.5) * (A(1) + t) + A(0.5) * y * (A(1) - t * t) * slope))
TERNARY(LeakyReluBackward, return y > A(0) ? x : x * z)           // z: negative_slope
TERNARY(EluBackward, return y > A(0) ? x : x * (z * exp(y)))      // z: alpha
struct SoftplusBackward : Same<4> {                               // z: beta, w: threshold
    template <class A> __device__ static A apply(A x, A y, A z, A w) {
        return y * z > w ? x : x * logistic(y * z);
    }
};

#undef UNARY
#undef BINARY
#undef COMPARE
#undef TERNARY
