// Matrix products by the BLAS that NumPy itself has loaded, which Python has to introduce (gb_know_blas).
//
// A large product is made of tiles, each a product of its own on one thread of our own pool. What the tiles are depends on
// the shapes, and on the number of threads where there are more than two. Meanwhile the BLAS is told to use one thread.
#pragma once

#include <pthread.h>

#include <atomic>
#include <mutex>

#include "arrays.h"
#include "pool.h"

namespace gb {

template <class T, class I> using Gemm = void (*)(int order, int of_x, int of_y, I n, I m, I k, T alpha, const T* x,
                                                  I pitch_x, const T* y, I pitch_y, T beta, T* out, I pitch);
template <class T, class I> using Gemv = void (*)(int order, int of_a, I rows, I columns, T alpha, const T* a, I pitch,
                                                  const T* x, I step_x, T beta, T* out, I step);
struct Blas {
    const void *single_gemm = nullptr, *double_gemm = nullptr, *single_gemv = nullptr, *double_gemv = nullptr;
    bool wide = false;  // its integers have 64 bits
    int (*get_threads)() = nullptr;
    void (*set_threads)(int) = nullptr;
};
inline Blas blas;

// While one of these lives, the BLAS uses one thread, and as many as it was allowed are ours. Its number of threads is one
// for the whole process: what others set meanwhile stays as they set it.
class OwnThreads {
    struct State {
        std::mutex lock;
        std::atomic<int> users{0}, allowed{1};
    };
    static State& state() {
        static State* made = new State;
        static const int known = pthread_atfork(nullptr, nullptr, [] {  // a child has none of the threads that use it
            if (made->users && blas.get_threads() == 1) blas.set_threads(made->allowed);
            made = new State;
            Pool::forget();
        });
        (void)known;
        return *made;
    }

public:
    OwnThreads() {
        if (!blas.set_threads) return;
        std::lock_guard<std::mutex> lock(state().lock);
        if (!state().users++) {
            state().allowed = blas.get_threads();
            if (state().allowed > 1) blas.set_threads(1);
        }
    }
    ~OwnThreads() {
        if (!blas.set_threads) return;
        std::lock_guard<std::mutex> lock(state().lock);
        if (!--state().users && state().allowed > 1 && blas.get_threads() == 1) blas.set_threads(state().allowed);
    }
    OwnThreads(const OwnThreads&) = delete;

    static int count() {
        if (!blas.set_threads) return 1;
        return state().users ? state().allowed.load() : blas.get_threads();
    }
};

// f(begin, end) for parts of 0 to n of at least `grain`, on all threads
template <class F> void in_parts(intptr_t n, intptr_t grain, const F& f) {
    constexpr intptr_t MOST = 64;
    const intptr_t count = n / grain < MOST ? n / grain : MOST;
    if (count < 2) return f(intptr_t(0), n);
    const intptr_t step = (n / count + 63) / 64 * 64, parts = (n + step - 1) / step;
    Pool::the().run(int(parts), OwnThreads::count(), [&](int i) { f(i * step, (i + 1) * step < n ? (i + 1) * step : n); });
}

// A matrix of float32 or float64 as the BLAS takes it: in C order, or the transposed of one that is. More than one column,
// for NumPy has other ways with columns.
struct Matrix {
    const char *begin = nullptr, *end = nullptr;  // null: anything else
    Dtype dtype = OTHER;
    intptr_t rows = 0, columns = 0;
    bool transposed = false;

    Matrix() = default;
    Matrix(const void* object) {
        const char* bytes = static_cast<const char*>(object);
        if (*reinterpret_cast<const void* const*>(bytes + known.header - sizeof(void*)) != known.array) return;
        const Fields* found = reinterpret_cast<const Fields*>(bytes + known.header);
        const bool wide = found->dtype == known.dtypes[FLOAT64];
        if (!(found->flags & ALIGNED) || found->axes != 2 || !(wide || found->dtype == known.dtypes[FLOAT32])) return;
        const intptr_t size = wide ? 8 : 4, n = found->shape[0], m = found->shape[1];
        transposed = n > 1 && found->strides[0] == size && found->strides[1] == n * size;
        if (n < 1 || m < 2 || !(transposed || (found->strides[1] == size && (n == 1 || found->strides[0] == m * size)))) return;
        dtype = wide ? FLOAT64 : FLOAT32;
        rows = n, columns = m;
        begin = found->data;
        end = begin + n * m * size;
    }
    intptr_t pitch() const { return transposed ? rows : columns; }
    template <class T> const T* at(intptr_t row, intptr_t column) const {
        return reinterpret_cast<const T*>(begin) + (transposed ? column * rows + row : row * columns + column);
    }
};

// How a product is cut: into `down` x `across` tiles of so many rows and columns, those at the end of fewer.
struct Tiles {
    intptr_t rows, columns, down, across;
};

// Every tile packs its rows and columns anew, so they are few: two, with all columns, of at most 256 rows; as many as there
// are threads, if those are more. (Then, and then only, their number may change the last bits.)
inline Tiles tiles(intptr_t n, intptr_t k, intptr_t m, intptr_t threads) {
    constexpr intptr_t ROWS = 256, FEW = 64, STEP = 16;  // STEP: no remainders inside
    if (double(n) * double(k) * double(m) < 1 << 18) return {n, m, 1, 1};
    const auto parts = [](intptr_t size, intptr_t count) { return ((size + count - 1) / count + STEP - 1) / STEP * STEP; };
    const intptr_t wanted = threads > 2 ? threads : 2, down = n < FEW ? 1 : n <= 2 * ROWS ? 2 : (n + ROWS - 1) / ROWS;
    Tiles t = {parts(n, down), parts(m, (wanted + down - 1) / down), 0, 0};
    t.down = (n + t.rows - 1) / t.rows, t.across = (m + t.columns - 1) / t.columns;
    return t;
}

constexpr int ROWS_FIRST = 101, AS_IT_IS = 111, TRANSPOSED = 112;  // CBLAS's numbers

// What follows a product: f(row + bias), in place. Null: nothing.
struct Behind {
    void (*floats)(float* row, const float* bias, intptr_t count) = nullptr;
    void (*doubles)(double* row, const double* bias, intptr_t count) = nullptr;
};

// out = f(x @ y + bias)      x (n, k), y (k, m), bias (m,), out (n, m); or out = x @ y
struct Layer {
    Matrix x, y;
    Array bias, out;
    Behind behind;

    // Whether it is one for the BLAS, as arrays and as numbers
    bool fits() const {
        return blas.single_gemm && x.begin && y.dtype == x.dtype && out.is(x.dtype) && out.writeable() &&
               out.fields->axes == 2 && x.columns == y.rows && y.rows > 1 && out.fields->shape[0] == x.rows &&
               out.fields->shape[1] == y.columns && x.begin != y.begin &&  // np.dot has another way with x @ x.T
               apart(out, x) && apart(out, y) &&
               (blas.wide || (x.end - x.begin <= INT32_MAX && y.end - y.begin <= INT32_MAX && out.size <= INT32_MAX)) &&
               (!behind.floats || (bias.is(x.dtype, y.columns) && apart(out, bias)));
    }
    Tiles cut() const { return tiles(x.rows, x.columns, y.columns, OwnThreads::count()); }

    void tile(const Tiles& t, int i) const {
        const intptr_t row = i / t.across * t.rows, column = i % t.across * t.columns;
        const intptr_t rows = row + t.rows < x.rows ? t.rows : x.rows - row;
        const intptr_t columns = column + t.columns < y.columns ? t.columns : y.columns - column;
        in_type([&](auto type, auto integer) {
            using T = decltype(type);
            using I = decltype(integer);
            T* const to = out.data<T>() + row * y.columns + column;
            reinterpret_cast<Gemm<T, I>>(const_cast<void*>(sizeof(T) == 4 ? blas.single_gemm : blas.double_gemm))(
                    ROWS_FIRST, x.transposed ? TRANSPOSED : AS_IT_IS, y.transposed ? TRANSPOSED : AS_IT_IS,
                    I(rows), I(columns), I(x.columns), T(1), x.at<T>(row, 0), I(x.pitch()), y.at<T>(0, column),
                    I(y.pitch()), T(0), to, I(y.columns));
            for (intptr_t j = 0; j < rows; ++j) follow(to + j * y.columns, column, columns);  // while they are in the cache
        });
    }

    // One row: every thread takes some columns of y, or rows of what y is the transposed of
    void row() const {
        in_parts(y.columns, (1 << 15) / y.rows + 1, [&](intptr_t begin, intptr_t end) {
            in_type([&](auto type, auto integer) {
                using T = decltype(type);
                using I = decltype(integer);
                const I count = I(end - begin), k = I(y.rows);
                T* const to = out.data<T>() + begin;
                reinterpret_cast<Gemv<T, I>>(const_cast<void*>(sizeof(T) == 4 ? blas.single_gemv : blas.double_gemv))(
                        ROWS_FIRST, y.transposed ? AS_IT_IS : TRANSPOSED, y.transposed ? count : k, y.transposed ? k : count,
                        T(1), y.at<T>(0, begin), I(y.pitch()), x.at<T>(0, 0), I(1), T(0), to, I(1));
                follow(to, begin, end - begin);
            });
        });
    }

    void run() const {
        const OwnThreads ours;
        if (x.rows == 1) return row();
        const Tiles t = cut();
        Pool::the().run(int(t.down * t.across), OwnThreads::count(), [&](int i) { tile(t, i); });
    }

private:
    template <class F> void in_type(const F& f) const {
        if (x.dtype == FLOAT32)
            blas.wide ? f(0.f, int64_t()) : f(0.f, int32_t());
        else
            blas.wide ? f(0., int64_t()) : f(0., int32_t());
    }
    void follow(float* row, intptr_t column, intptr_t count) const {
        if (behind.floats) behind.floats(row, bias.data<float>() + column, count);
    }
    void follow(double* row, intptr_t column, intptr_t count) const {
        if (behind.doubles) behind.doubles(row, bias.data<double>() + column, count);
    }
};

// Layers of which each reads what the one before it wrote, in tiles of the same whole rows: a thread takes its rows through
// all of them, and waits for nobody in between. How many of `count` are one chain; below two: none.
inline int chained(const Layer* layers, int count) {
    if (count < 2 || !layers[0].fits() || layers[0].x.rows < 2) return 0;
    const Tiles first = layers[0].cut();
    if (first.down < 2 || first.across > 1) return 0;
    const auto disjoint = [](const Layer& writes, const Layer& other) {
        return apart(writes.out, other.out) && apart(writes.out, other.y) &&
               (!other.behind.floats || apart(writes.out, other.bias));
    };
    int n = 1;
    for (; n < count; ++n) {
        const Layer &next = layers[n], &before = layers[n - 1];
        // the same rows: a reshape in between leaves the memory, and makes others of it
        const bool reads_it = next.x.begin == before.out.begin && next.x.end == before.out.end && next.x.rows == before.x.rows;
        if (!next.fits() || next.x.transposed || !reads_it) break;
        const Tiles t = next.cut();
        bool alike = t.across == 1 && t.rows == first.rows && apart(next.out, layers[0].x);
        for (int i = 0; i < n && alike; ++i) alike = disjoint(next, layers[i]) && disjoint(layers[i], next);
        if (!alike) break;
    }
    return n < 2 ? 0 : n;
}

inline void run_chain(const Layer* layers, int count) {
    const Tiles t = layers[0].cut();
    Pool::the().run(int(t.down), OwnThreads::count(), [&](int i) {
        for (int j = 0; j < count; ++j) layers[j].tile(layers[j].cut(), i);
    });
}

}  // namespace gb
