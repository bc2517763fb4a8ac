// The fused passes of the CPU backend: what NumPy does in several passes over memory, in one.
//
// Compiled for the machine at hand by gpu_backprop/backends/compiled.py, which says what each pass is called for. Every
// pass takes NumPy arrays, looks whether they are what it is made for (contiguous, of one dtype, shapes that fit, outputs
// that lie apart from inputs) and either does the work and returns DONE, or returns REFUSED, having changed nothing that
// counts: then NumPy does it, or raises the error that is due.
//
// Sums and products are rounded one by one (no contraction), in the order in which the NumPy functions of
// gpu_backprop/backends/ do them, so that updates, biases and activations give the bits that NumPy gives. Large arrays
// are shared out among threads (pool.h), which changes no bits.

#include <cmath>
#include <initializer_list>
#include <utility>

#include "arrays.h"
#include "functors.h"
#include "halves.h"
#include "lanes.h"
#include "products.h"

#define NOINLINE __attribute__((noinline))
#define PASS extern "C" __attribute__((visibility("default"))) int

using namespace gb;
typedef const void* Object;

PASS gb_setup(size_t header, Object array, Object none, Object float32, Object float64, Object float16, Object int64) {
    const Object dtypes[] = {float32, float64, float16, nullptr, int64};
    known = {header, array, none, {}};
    for (int i = 0; i <= INT64; ++i) known.dtypes[i] = dtypes[i];
    return DONE;
}

// bfloat16 belongs to a package that is imported when it is first wanted
PASS gb_know_bfloat16(Object dtype) {
    known.dtypes[BFLOAT16] = dtype;
    return DONE;
}

// Whether an array of two axes looks as Python says that it is
PASS gb_probe(Object object, const void* data, intptr_t rows, intptr_t columns, int writeable) {
    const Array x(object);
    return x.fields && x.begin == data && x.fields->axes == 2 && x.fields->shape[0] == rows && x.columns() == columns &&
                           x.writeable() == bool(writeable)
                   ? DONE
                   : REFUSED;
}

constexpr intptr_t GRAIN = 1 << 15;  // numbers that are worth a thread's while

// calls f(float()) or f(double())
template <class F> static int by_type(const Array& x, F f) {
    return x.is(FLOAT32) ? f(float()) : x.is(FLOAT64) ? f(double()) : int(REFUSED);
}

// ---------------------------------------------------------------------------------------------------------------------
// activations and their gradients:  out = f(x),  dx = f(g, y)
//
// Every loop over numbers is in a function of its own, which is given the pointers: those that a lambda has captured may
// lie in what the loop writes, as far as the compiler knows, and the loop would not become vector code.

template <class Op, class A> static void map(const A* x, A* out, intptr_t n) {
#pragma GCC ivdep
    for (intptr_t i = 0; i < n; ++i) out[i] = Op::apply(x[i]);
}
template <class Op, class A> static void map(const A* x, const A* y, A* out, intptr_t n) {
#pragma GCC ivdep
    for (intptr_t i = 0; i < n; ++i) out[i] = Op::apply(x[i], y[i]);
}

template <class Op> static int unary(Object input, Object output) {
    const Array x(input), out(output);
    if (!x.fields || !out.is(x.dtype) || !out.writeable() || !same_shape(x, out) || !same_or_apart(x, out)) return REFUSED;
    return by_type(x, [&](auto zero) {
        using A = decltype(zero);
        const A* from = x.data<A>();
        A* to = out.data<A>();
        in_parts(x.size, GRAIN, [=](intptr_t i, intptr_t end) { map<Op>(from + i, to + i, end - i); });
        return int(DONE);
    });
}

template <class Op> static int binary(Object first, Object second, Object output) {
    const Array x(first), y(second), out(output);
    if (!x.fields || !y.is(x.dtype) || !out.is(x.dtype) || !out.writeable() || !same_shape(x, y) ||
        !same_shape(x, out) || !same_or_apart(x, out) || !same_or_apart(y, out))
        return REFUSED;
    return by_type(x, [&](auto zero) {
        using A = decltype(zero);
        const A *a = x.data<A>(), *b = y.data<A>();
        A* to = out.data<A>();
        in_parts(x.size, GRAIN, [=](intptr_t i, intptr_t end) { map<Op>(a + i, b + i, to + i, end - i); });
        return int(DONE);
    });
}

PASS gb_relu(Object x, Object out) { return unary<cuda::Relu>(x, out); }
PASS gb_relu_backward(Object g, Object y, Object out) { return binary<cuda::ReluBackward>(g, y, out); }
PASS gb_sigmoid_backward(Object g, Object y, Object out) { return binary<cuda::SigmoidBackward>(g, y, out); }
PASS gb_tanh_backward(Object g, Object y, Object out) { return binary<cuda::TanhBackward>(g, y, out); }

// ---------------------------------------------------------------------------------------------------------------------
// behind a product:  x = f(x + bias)      x (..., columns) in place, bias (columns,)

template <class Op, class A> static void add_bias(A* row, const A* bias, intptr_t n) {
#pragma GCC ivdep
    for (intptr_t i = 0; i < n; ++i) row[i] = Op::apply(row[i] + bias[i]);
}

template <class Op> static int with_bias(Object values, Object biases) {
    const Array x(values), bias(biases);
    if (!x.writeable() || !bias.is(x.dtype, x.columns()) || !apart(x, bias)) return REFUSED;
    return by_type(x, [&](auto zero) {
        using A = decltype(zero);
        const intptr_t columns = x.columns();
        A* const values = x.data<A>();
        const A* b = bias.data<A>();
        if (columns)
            in_parts(x.size / columns, GRAIN / columns + 1, [=](intptr_t i, intptr_t end) {
                for (; i < end; ++i) add_bias<Op>(values + i * columns, b, columns);
            });
        return int(DONE);
    });
}

PASS gb_bias(Object x, Object bias) { return with_bias<cuda::Copy>(x, bias); }
PASS gb_bias_relu(Object x, Object bias) { return with_bias<cuda::Relu>(x, bias); }

// ---------------------------------------------------------------------------------------------------------------------
// dx = g where y > 0, else 0;  db = sum over rows of dx      g, y, dx (..., columns), db (columns,)
//
// Rows add up in runs, and the runs after that: the rounding error grows with the length of a run, not of the column.

constexpr int TILE = 1024, RUN = 32;  // columns whose sums stay in the first-level cache; rows

template <class A> static void relu_bias_columns(
        intptr_t rows, intptr_t pitch, int width, const A* g, const A* y, A* dx, A* db) {
    A totals[TILE] = {}, sums[TILE];
    for (intptr_t row = 0; row < rows;) {
        for (int j = 0; j < width; ++j) sums[j] = A(0);
        for (const intptr_t end = row + RUN < rows ? row + RUN : rows; row < end; ++row) {
            const A *gs = g + row * pitch, *ys = y + row * pitch;
            A* to = dx + row * pitch;
#pragma GCC ivdep
            for (int j = 0; j < width; ++j) {
                const A d = cuda::ReluBackward::apply(gs[j], ys[j]);
                to[j] = d;
                sums[j] += d;
            }
        }
        for (int j = 0; j < width; ++j) totals[j] += sums[j];
    }
    for (int j = 0; j < width; ++j) db[j] = totals[j];
}

PASS gb_relu_bias_backward(Object gradient, Object output, Object slopes, Object sums) {
    const Array g(gradient), y(output), dx(slopes), db(sums);
    if (!g.fields || !y.is(g.dtype) || !dx.is(g.dtype) || !db.is(g.dtype, g.columns()) || !g.fields->axes ||
        !dx.writeable() || !db.writeable() || !same_shape(g, y) || !same_shape(g, dx) || !same_or_apart(g, dx) ||
        !same_or_apart(y, dx) || !apart(db, g) || !apart(db, y) || !apart(db, dx))
        return REFUSED;
    return by_type(g, [&](auto zero) {
        using A = decltype(zero);
        const intptr_t columns = g.columns(), rows = columns ? g.size / columns : 0;
        in_parts(columns, GRAIN / (rows + 1) + 1, [&](intptr_t j, intptr_t end) {
            for (; j < end; j += TILE)
                relu_bias_columns(rows, columns, int(end - j < TILE ? end - j : TILE), g.data<A>() + j,
                                  y.data<A>() + j, dx.data<A>() + j, db.data<A>() + j);
        });
        return int(DONE);
    });
}

// The sum over rows alone, in the same order: the same bits behind a gradient of ReLU that was computed before.

template <class A> static void column_sums(intptr_t rows, intptr_t pitch, int width, const A* x, A* out) {
    A totals[TILE] = {}, sums[TILE];
    for (intptr_t row = 0; row < rows;) {
        for (int j = 0; j < width; ++j) sums[j] = A(0);
        for (const intptr_t end = row + RUN < rows ? row + RUN : rows; row < end; ++row) {
            const A* from = x + row * pitch;
            for (int j = 0; j < width; ++j) sums[j] += from[j];
        }
        for (int j = 0; j < width; ++j) totals[j] += sums[j];
    }
    for (int j = 0; j < width; ++j) out[j] = totals[j];
}

PASS gb_sum(Object values, Object sums) {
    const Array x(values), out(sums);
    if (!x.fields || x.fields->axes != 2 || !out.is(x.dtype, x.columns()) || !out.writeable() || !apart(x, out)) return REFUSED;
    return by_type(x, [&](auto zero) {
        using A = decltype(zero);
        const intptr_t columns = x.columns(), rows = x.fields->shape[0];
        in_parts(columns, GRAIN / (rows + 1) + 1, [&](intptr_t j, intptr_t end) {
            for (; j < end; j += TILE)
                column_sums(rows, columns, int(end - j < TILE ? end - j : TILE), x.data<A>() + j, out.data<A>() + j);
        });
        return int(DONE);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// softmax cross-entropy of x (rows, columns) and labels (rows,), without weights and smoothing
//
//   loss[i] = log(mass[i]) + (top[i] - x[i, y]),  top = max(x[i]),  mass = sum(exp(x[i] - top));  0 where y == ignored
//   total   = the number of rows that count;  loss: all of them (NONE), their sum, or their sum / total
//   dx[i]   = (exp(x[i] - top) / mass - [j == y]) scale,  scale = g[i] (NONE), g or g / total
//
// Forward: a row is read from memory once, its losses added up in double. A label that is none: REFUSED, for NumPy to say
// which.

// Narrow rows, as most classifiers have them, go many at a time: their exponentials then fill whole registers.

enum Reduction { NONE = 0, MEAN = 1, SUM = 2 };

constexpr intptr_t ROOM = 1024, NARROW = 32;  // numbers in a block of rows, in the first-level cache; columns

template <class A> NOINLINE static void exp_all(intptr_t n, A* x) {
    for (intptr_t i = 0; i < n; i += LANES<A>) store(x + i, exp(load(x + i, n - i, A(0))), n - i);
}

// to = x - top, row by row
template <class A> NOINLINE static void less_top(
        intptr_t rows, intptr_t columns, const A* x, const A* top, A* to) {
    for (intptr_t i = 0; i < rows; ++i)
#pragma GCC ivdep
        for (intptr_t j = 0; j < columns; ++j) to[i * columns + j] = x[i * columns + j] - top[i];
}

// An infinite maximum gives NaN, and so does a NaN.
template <class A> NOINLINE static void narrow_rows(intptr_t rows, intptr_t columns, const A* x, A* top, A* mass) {
    A room[ROOM];
    for (intptr_t i = 0; i < rows; ++i) {
        A most = x[i * columns];
        for (intptr_t j = 1; j < columns; ++j) most = x[i * columns + j] > most ? x[i * columns + j] : most;
        top[i] = most;
    }
    less_top(rows, columns, x, top, room);
    exp_all(rows * columns, room);
    for (intptr_t i = 0; i < rows; ++i) {
        A sum = room[i * columns];
        for (intptr_t j = 1; j < columns; ++j) sum += room[i * columns + j];
        mass[i] = sum;
    }
}

template <class A> NOINLINE static A wide_row_top(intptr_t n, const A* x) {
    const A nothing = -A(INFINITY);
    Lanes<A> most = load(x, n, nothing);
    for (intptr_t i = LANES<A>; i < n; i += LANES<A>) most = larger(most, load(x + i, n - i, nothing));
    return max_across<A>(most);
}

template <class A> NOINLINE static A wide_row_mass(intptr_t n, const A* x, A top) {
    Lanes<A> sums = {};
    for (intptr_t i = 0; i < n; i += LANES<A>) {
        const Lanes<A> values = load(x + i, n - i, -A(INFINITY));
        sums = add(sums, each(values, [=](Register<A> part) { return exp<A>(part - top); }));
    }
    return sum_across<A>(sums);
}

PASS gb_softmax_cross_entropy(Object inputs, Object classes, Object losses, Object tops, Object masses, Object totals,
                              int reduction, long long ignored) {
    const Array x(inputs), labels(classes), loss(losses), top(tops), mass(masses), total(totals);
    if (!x.fields || x.fields->axes != 2) return REFUSED;
    const intptr_t rows = x.fields->shape[0], columns = x.columns();
    if (!columns || !labels.is(INT64, rows) || !loss.is(x.dtype, reduction == NONE ? rows : 1) || !top.is(x.dtype, rows) ||
        !mass.is(x.dtype, rows) || !total.is(x.dtype, 1))
        return REFUSED;
    const Array *inputs_[] = {&x, &labels}, *outputs[] = {&loss, &top, &mass, &total};
    for (int i = 0; i < 4; ++i) {
        if (!outputs[i]->writeable()) return REFUSED;
        for (const Array* input : inputs_)
            if (!apart(*input, *outputs[i])) return REFUSED;
        for (int j = 0; j < i; ++j)
            if (!apart(*outputs[i], *outputs[j])) return REFUSED;
    }
    return by_type(x, [&](auto zero) {
        using A = decltype(zero);
        A *const tops = top.data<A>(), *const masses = mass.data<A>();
        double sum = 0.0;
        intptr_t counted = 0;
        const intptr_t step = columns <= NARROW ? ROOM / columns : 1;
        for (intptr_t first = 0; first < rows; first += step) {
            const intptr_t last = first + step < rows ? first + step : rows;
            const A* const block = x.data<A>() + first * columns;
            if (columns <= NARROW) narrow_rows(last - first, columns, block, tops + first, masses + first);
            else {
                tops[first] = wide_row_top(columns, block);
                masses[first] = wide_row_mass(columns, block, tops[first]);
            }
            for (intptr_t i = first; i < last; ++i) {
                const long long label = labels.data<long long>()[i];
                if (label != ignored && (label < 0 || label >= columns)) return int(REFUSED);
                const A own = label == ignored ? A(0) : (tops[i] - x.data<A>()[i * columns + label]) + std::log(masses[i]);
                counted += label != ignored;
                sum += own;
                if (reduction == NONE) loss.data<A>()[i] = own;
            }
        }
        *total.data<A>() = A(counted);
        if (reduction != NONE) *loss.data<A>() = A(reduction == MEAN ? sum / double(counted) : sum);
        return int(DONE);
    });
}

PASS gb_softmax_cross_entropy_backward(Object gradient, Object inputs, Object classes, Object tops, Object masses,
                                       Object totals, Object slopes, int reduction, long long ignored) {
    const Array g(gradient), x(inputs), labels(classes), top(tops), mass(masses), total(totals), dx(slopes);
    if (!x.fields || x.fields->axes != 2) return REFUSED;
    const intptr_t rows = x.fields->shape[0], columns = x.columns();
    if (!g.is(x.dtype, reduction == NONE ? rows : 1) || !labels.is(INT64, rows) || !top.is(x.dtype, rows) ||
        !mass.is(x.dtype, rows) || !total.is(x.dtype, 1) || !dx.is(x.dtype) || !dx.writeable() || !same_shape(x, dx) ||
        !same_or_apart(x, dx))
        return REFUSED;
    for (const Array* input : {&g, &labels, &top, &mass, &total})
        if (!apart(*input, dx)) return REFUSED;
    return by_type(x, [&](auto zero) {
        using A = decltype(zero);
        const A whole = reduction == MEAN ? *g.data<A>() / *total.data<A>() : *g.data<A>();
        const intptr_t step = columns < ROOM ? ROOM / (columns ? columns : 1) : 1;
        for (intptr_t first = 0; first < rows; first += step) {
            const intptr_t count = first + step < rows ? step : rows - first;
            A* to = dx.data<A>() + first * columns;
            less_top(count, columns, x.data<A>() + first * columns, top.data<A>() + first, to);
            exp_all(count * columns, to);
            for (intptr_t i = first; i < first + count; ++i, to += columns) {
                const long long label = labels.data<long long>()[i];
                if (label == ignored || label < 0 || label >= columns) {  // whatever the row holds
                    for (intptr_t j = 0; j < columns; ++j) to[j] = A(0);
                    continue;
                }
                const A scale = reduction == NONE ? g.data<A>()[i] : whole, share = scale / mass.data<A>()[i];
                for (intptr_t j = 0; j < columns; ++j) to[j] *= share;
                to[label] -= scale;
            }
        }
        return int(DONE);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Optimiser updates in place: formulas and the order of operations are those of gpu_backprop/backends/updates.py, which
// also says what hyper and steps hold. A run goes in blocks that stay in the first-level cache: 16-bit floats are made
// wide there and rounded once, float32 and float64 are worked on where they lie.

constexpr int MAX_BLOCK = 512;
enum { LR, WEIGHT_DECAY, GRAD_SCALE, SKIP, OWN };

template <class A> struct Step {  // what an update needs beside its arrays
    A scale, decay;               // of the gradient
    A c[8];                       // coefficients, as each update names them
    bool flag = false, other_flag = false;
};

// The gradient as the update sees it: as it lies, or scaled, negated and decayed in `to`
template <class A> static const A* prepared(const Step<A>& step, int n, const A* __restrict g, const A* __restrict p, A* __restrict to) {
    const A scale = step.scale, decay = step.decay;
    if (scale == A(1) && decay == A(0)) return g;
    if (decay == A(0))  // not a product by 0, which is NaN beside an infinite parameter
        for (int i = 0; i < n; ++i) to[i] = g[i] * scale;
    else
        for (int i = 0; i < n; ++i) to[i] = g[i] * scale + p[i] * decay;
    return to;
}

// One array of a run, or none: blocks of it come out wide, and go back where they changed.
template <class T, class A> NOINLINE static void widen_block(const void* from, A* to, int n) {
    for (int i = 0; i < n; ++i) to[i] = A(widen(static_cast<const T*>(from)[i]));
}
template <class T, class A> NOINLINE static void narrow_block(const A* from, void* to, int n) {
    for (int i = 0; i < n; ++i) static_cast<T*>(to)[i] = Narrow<T>::from(from[i]);
}

template <class A> class Stream {
    char* at;
    Dtype dtype;
    int itemsize;
    bool as_it_is;
    A wide[MAX_BLOCK];

public:
    Stream(const Array& array, intptr_t start) : at(array.begin), dtype(array.dtype), itemsize(dtype == FLOAT32 ? 4 : dtype == FLOAT64 ? 8 : 2),
          as_it_is(itemsize == sizeof(A)) {
        next(start);
    }

    A* block(int n) {
        if (!at || as_it_is) return reinterpret_cast<A*>(at);
        if constexpr (sizeof(A) == 4) dtype == FLOAT16 ? widen_block<Half>(at, wide, n) : widen_block<Bfloat>(at, wide, n);
        return wide;
    }
    void back(const A* from, int n) {
        if (!at || as_it_is) return;
        if constexpr (sizeof(A) == 4) dtype == FLOAT16 ? narrow_block<Half>(from, at, n) : narrow_block<Bfloat>(from, at, n);
    }
    void next(intptr_t n) {
        if (at) at += n * itemsize;
    }
};

template <class Update, class A>
static void run_blocks(const Step<A>& step, const Array& param, const Array& master, const Array& grad, const Array* state,
                       intptr_t begin, intptr_t end) {
    A scratch[MAX_BLOCK];
    Stream<A> rounded(param, begin), weights(master, begin), gradient(grad, begin), first(state[0], begin),
            second(state[1], begin), third(state[2], begin);
    for (intptr_t left = end - begin; left > 0; left -= MAX_BLOCK) {
        const int n = int(left < MAX_BLOCK ? left : MAX_BLOCK);
        A *p = master.none ? rounded.block(n) : weights.block(n), *a = first.block(n), *b = second.block(n),
          *c = third.block(n);
        Update::block(step, n, p, prepared(step, n, gradient.block(n), p, scratch), a, b, c);
        rounded.back(p, n);
        first.back(a, n);
        second.back(b, n);
        third.back(c, n);
        for (Stream<A>* stream : {&rounded, &weights, &gradient, &first, &second, &third}) stream->next(n);
    }
}

struct Sgd {  // c: lr, momentum, 1 - dampening;  flag: the first update;  other_flag: nesterov
    template <class A> static void prepare(Step<A>& step, const double* h, double t, bool nesterov) {
        step.c[0] = A(h[LR]);
        step.c[1] = A(h[OWN]);
        step.c[2] = A(1.0 - h[OWN + 1]);
        step.flag = t == 1.0;
        step.other_flag = nesterov;
    }
    template <class A> static void block(
            const Step<A>& step, int n, A* __restrict p, const A* __restrict g, A* __restrict buffer, A*, A*) {
        const A lr = step.c[0], momentum = step.c[1], fresh = step.c[2];
        if (!buffer) {
            for (int i = 0; i < n; ++i) p[i] -= g[i] * lr;
            return;
        }
        if (step.flag)
            for (int i = 0; i < n; ++i) buffer[i] = g[i];
        else
            for (int i = 0; i < n; ++i) buffer[i] = buffer[i] * momentum + g[i] * fresh;
        if (step.other_flag)
            for (int i = 0; i < n; ++i) p[i] -= (buffer[i] * momentum + g[i]) * lr;
        else
            for (int i = 0; i < n; ++i) p[i] -= buffer[i] * lr;
    }
};

struct Adam {  // c: beta1, 1 - beta1, beta2, 1 - beta2, factor of the root, eps, step size, share that is kept
    template <class A> static void prepare(Step<A>& step, const double* h, double t, bool decoupled) {
        const double beta1 = h[OWN], beta2 = h[OWN + 1], size = h[LR] / (1.0 - std::pow(beta1, t));
        // Dividing the denominator by the step size saves a product, while the quotient is far from overflow.
        const double fold = size > 1e-20 ? size : 1.0;
        const double values[] = {beta1, 1.0 - beta1, beta2, 1.0 - beta2,
                                 1.0 / (std::sqrt(1.0 - std::pow(beta2, t)) * fold), h[OWN + 2] / fold,
                                 fold == size ? 1.0 : size, decoupled ? 1.0 - h[LR] * h[WEIGHT_DECAY] : 1.0};
        for (int i = 0; i < 8; ++i) step.c[i] = A(values[i]);
        if (decoupled) step.decay = A(0);
    }
    template <class A> static void block(
            const Step<A>& step, int n, A* __restrict p, const A* __restrict g, A* __restrict m, A* __restrict v,
            A* __restrict largest) {
        const A beta1 = step.c[0], fresh1 = step.c[1], beta2 = step.c[2], fresh2 = step.c[3];
        const A root = step.c[4], eps = step.c[5], size = step.c[6], keep = step.c[7];
        const auto move = [=](A weight, A first, A second) {
            return weight * keep - first / (std::sqrt(second) * root + eps) * size;
        };
        if (largest) {
            for (int i = 0; i < n; ++i) {
                m[i] = m[i] * beta1 + g[i] * fresh1;
                v[i] = v[i] * beta2 + g[i] * g[i] * fresh2;
                largest[i] = cuda::max_nan(v[i], largest[i]);
                p[i] = move(p[i], m[i], largest[i]);
            }
            return;
        }
        for (int i = 0; i < n; ++i) {
            m[i] = m[i] * beta1 + g[i] * fresh1;
            v[i] = v[i] * beta2 + g[i] * g[i] * fresh2;
            p[i] = move(p[i], m[i], v[i]);
        }
    }
};

struct Rmsprop {  // c: lr, alpha, 1 - alpha, eps, momentum
    template <class A> static void prepare(Step<A>& step, const double* h, double, bool) {
        const double values[] = {h[LR], h[OWN], 1.0 - h[OWN], h[OWN + 1], h[OWN + 2]};
        for (int i = 0; i < 5; ++i) step.c[i] = A(values[i]);
    }
    template <class A> static void block(
            const Step<A>& step, int n, A* __restrict p, const A* __restrict g, A* __restrict square, A* __restrict mean,
            A* __restrict buffer) {
        const A lr = step.c[0], alpha = step.c[1], fresh = step.c[2], eps = step.c[3], momentum = step.c[4];
        A moves[MAX_BLOCK];
        if (mean)
            for (int i = 0; i < n; ++i) {
                square[i] = square[i] * alpha + g[i] * g[i] * fresh;
                mean[i] = mean[i] * alpha + g[i] * fresh;
                // rounding can take a variance of nothing below 0
                moves[i] = g[i] / (std::sqrt(cuda::max_nan(square[i] - mean[i] * mean[i], A(0))) + eps);
            }
        else
            for (int i = 0; i < n; ++i) {
                square[i] = square[i] * alpha + g[i] * g[i] * fresh;
                moves[i] = g[i] / (std::sqrt(square[i]) + eps);
            }
        if (buffer)
            for (int i = 0; i < n; ++i) moves[i] = buffer[i] = buffer[i] * momentum + moves[i];
        for (int i = 0; i < n; ++i) p[i] -= moves[i] * lr;
    }
};

struct Adagrad {  // c: lr of this step, eps
    template <class A> static void prepare(Step<A>& step, const double* h, double t, bool) {
        step.c[0] = A(h[LR] / (1.0 + (t - 1.0) * h[OWN]));
        step.c[1] = A(h[OWN + 1]);
    }
    template <class A> static void block(
            const Step<A>& step, int n, A* __restrict p, const A* __restrict g, A* __restrict sum, A*, A*) {
        const A lr = step.c[0], eps = step.c[1];
        for (int i = 0; i < n; ++i) {
            sum[i] += g[i] * g[i];
            p[i] -= g[i] / (std::sqrt(sum[i]) + eps) * lr;
        }
    }
};

template <class Update> static int update(
        Object params, Object grads, Object first, Object second, Object third, Object hypers, Object counts,
        Object masters, long long start, long long count, int flag, int maximize) {
    const Array param(params), grad(grads), hyper(hypers), steps(counts), master(masters);
    const Array state[] = {first, second, third};
    if (!param.writeable() || !grad.is(param.dtype, param.size) || !hyper.is(FLOAT64) || hyper.size < OWN + 3 ||
        !steps.is(FLOAT64) || !steps.writeable() || start < 0 || count < 1 || start + count > steps.size)
        return REFUSED;
    const Array* runs[] = {&param, &grad, &master, &state[0], &state[1], &state[2]};
    const Dtype wide = master.none ? param.dtype : FLOAT32;
    for (int i = 0; i < 6; ++i) {
        if (runs[i]->none) continue;
        if (i > 1 && !(runs[i]->is(wide, param.size) && runs[i]->writeable())) return REFUSED;
        for (int j = 0; j < i; ++j)
            if (!runs[j]->none && !apart(*runs[i], *runs[j])) return REFUSED;
    }
    const double* h = hyper.data<double>();
    if (h[SKIP] != 0.0) return DONE;
    const double t = steps.data<double>()[start] + 1.0;
    const auto run = [&](auto zero) {
        using A = decltype(zero);
        Step<A> step;
        step.scale = A(maximize ? -h[GRAD_SCALE] : h[GRAD_SCALE]);
        step.decay = A(h[WEIGHT_DECAY]);
        Update::prepare(step, h, t, flag);
        in_parts(param.size, GRAIN / 2, [&](intptr_t i, intptr_t end) {
            run_blocks<Update>(step, param, master, grad, state, i, end);
        });
        for (long long i = start; i < start + count; ++i) steps.data<double>()[i] = t;
        return int(DONE);
    };
    const bool half = param.is(FLOAT16) || param.is(BFLOAT16);
    if (half) return run(float());
    return master.none ? by_type(param, run) : int(REFUSED);
}

#define UPDATE(name, Update)                                                                                           \
    PASS gb_##name(Object param, Object grad, Object first, Object second, Object third, Object hyper, Object steps,   \
                   Object master, long long start, long long count, int flag, int maximize) {                          \
        return update<Update>(param, grad, first, second, third, hyper, steps, master, start, count, flag, maximize);  \
    }

UPDATE(sgd_update, Sgd)
UPDATE(adam_update, Adam)
UPDATE(rmsprop_update, Rmsprop)
UPDATE(adagrad_update, Adagrad)

// ---------------------------------------------------------------------------------------------------------------------
// out = x @ y      x (n, k), y (k, m), out (n, m)

PASS gb_know_blas(const void* single_gemm, const void* double_gemm, const void* single_gemv, const void* double_gemv,
                  const void* get_threads, const void* set_threads, int wide) {
    blas = {single_gemm, double_gemm, single_gemv, double_gemv, bool(wide), (int (*)())get_threads, (void (*)(int))set_threads};
    return DONE;
}

static int run(const Layer& layer) {
    if (!layer.fits()) return REFUSED;
    layer.run();
    return DONE;
}

static Layer product(Object x, Object y, Object out) { return {x, y, known.none, out, {}}; }

// f(x @ y + bias)      bias (m,)
template <class Op> static Layer layer(Object x, Object y, Object bias, Object out) {
    return {x, y, bias, out, {add_bias<Op, float>, add_bias<Op, double>}};
}

PASS gb_matmul(Object x, Object y, Object out) { return run(product(x, y, out)); }
// Whether gb_matmul would multiply these
PASS gb_can_matmul(Object x, Object y, Object out) { return product(x, y, out).fits() ? DONE : REFUSED; }
PASS gb_linear(Object x, Object y, Object bias, Object out) { return run(layer<cuda::Copy>(x, y, bias, out)); }
PASS gb_linear_relu(Object x, Object y, Object bias, Object out) { return run(layer<cuda::Relu>(x, y, bias, out)); }

// ---------------------------------------------------------------------------------------------------------------------
// Many passes in a row: the calls of a captured program, their arguments bound beforehand

struct Bound {
    int (*pass)(const long long*);
    const long long* arguments;
};

template <auto pass, class... A, size_t... I>
static int unpacked(int (*)(A...), const long long* arguments, std::index_sequence<I...>) {
    return pass((A)(arguments[I])...);  // an object's address, or a number
}
template <class... A> static auto indices(int (*)(A...)) { return std::index_sequence_for<A...>(); }
template <auto pass> static int packed(const long long* arguments) { return unpacked<pass>(pass, arguments, indices(pass)); }

#define PACKED(name) \
    PASS gb_packed_##name(const long long* arguments) { return packed<gb_##name>(arguments); }

PACKED(relu)
PACKED(relu_backward)
PACKED(sigmoid_backward)
PACKED(tanh_backward)
PACKED(relu_bias_backward)
PACKED(sum)
PACKED(softmax_cross_entropy)
PACKED(softmax_cross_entropy_backward)
PACKED(sgd_update)
PACKED(adam_update)
PACKED(rmsprop_update)
PACKED(adagrad_update)
PACKED(matmul)
PACKED(linear)
PACKED(linear_relu)

// Arrays that are views of a program's own copy of an argument, made to look into the caller's array instead: it is laid out
// alike, and is there until the program has run.
PASS gb_look_into(const void* const* views, const long long* offsets, int count, Object array) {
    const auto fields = [](const void* object) {
        return reinterpret_cast<Fields*>(const_cast<char*>(static_cast<const char*>(object)) + known.header);
    };
    const char* bytes = static_cast<const char*>(array);
    if (*reinterpret_cast<const void* const*>(bytes + known.header - sizeof(void*)) != known.array) return REFUSED;
    if (!(fields(array)->flags & ALIGNED)) return REFUSED;
    for (int i = 0; i < count; ++i) fields(views[i])->data = fields(array)->data + offsets[i];
    return DONE;
}

static bool is_layer(const Bound& call) { return call.pass == gb_packed_linear || call.pass == gb_packed_linear_relu; }

// Runs the next calls at once, if they are layers that can be; gives how many.
static int run_as_chain(const Bound* calls, int count) {
    constexpr int MOST = 8;
    if (count < 2 || !is_layer(calls[0]) || !is_layer(calls[1])) return 0;
    Layer layers[MOST];
    int n = 0;
    for (; n < count && n < MOST && is_layer(calls[n]); ++n) {
        const long long* const a = calls[n].arguments;
        const auto made = calls[n].pass == gb_packed_linear ? layer<cuda::Copy> : layer<cuda::Relu>;
        layers[n] = made((Object)a[0], (Object)a[1], (Object)a[2], (Object)a[3]);
    }
    n = chained(layers, n);
    if (n) run_chain(layers, n);
    return n;
}

// Runs the calls from `first` on; gives the number of one that was refused, or `count`.
PASS gb_in_turn(const Bound* calls, int first, int count) {
    const OwnThreads ours;
    while (first < count) {
        const int together = run_as_chain(calls + first, count - first);
        if (!together && calls[first].pass(calls[first].arguments)) return first;
        first += together ? together : 1;
    }
    return count;
}
