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

struct Tiles {
    intptr_t rows, columns, down, across;  // of a tile; how many there are
};

// Every tile packs its rows and columns anew, so they are few: two, with all columns, of at most 256 rows; as many as there
// are threads, if those are more. (Then, and then only, their number may change the last bits.)
inline Tiles tiles(intptr_t n, intptr_t k, intptr_t m, intptr_t threads) {
    constexpr intptr_t ROWS = 256, FEW = 64, STEP = 16;  // STEP: no remainders inside
    if (double(n) * double(k) * double(m) < 1 << 20) return {n, m, 1, 1};
    const auto parts = [](intptr_t size, intptr_t count) { return ((size + count - 1) / count + STEP - 1) / STEP * STEP; };
    const intptr_t wanted = threads > 2 ? threads : 2, down = n < FEW ? 1 : n <= 2 * ROWS ? 2 : (n + ROWS - 1) / ROWS;
    Tiles t = {parts(n, down), parts(m, (wanted + down - 1) / down), 0, 0};
    t.down = (n + t.rows - 1) / t.rows, t.across = (m + t.columns - 1) / t.columns;
    return t;
}

constexpr int ROWS_FIRST = 101, AS_IT_IS = 111, TRANSPOSED = 112;  // CBLAS's numbers

// One row: every thread takes some columns of y, or rows of what y is the transposed of
template <class T, class I, class F>
void multiply_row(const void* gemv, const Matrix& x, const Matrix& y, T* out, const F& then) {
    const intptr_t k = y.rows, m = y.columns;
    in_parts(m, (1 << 15) / k + 1, [&](intptr_t begin, intptr_t end) {
        const I count = I(end - begin);
        reinterpret_cast<Gemv<T, I>>(const_cast<void*>(gemv))(
                ROWS_FIRST, y.transposed ? AS_IT_IS : TRANSPOSED, y.transposed ? count : I(k), y.transposed ? I(k) : count,
                T(1), y.at<T>(0, begin), I(y.pitch()), x.at<T>(0, 0), I(1), T(0), out + begin, I(1));
        then(out + begin, begin, end - begin);
    });
}

template <class T, class I, class F>
void multiply(const void* gemm, const void* gemv, const Matrix& x, const Matrix& y, T* out, const F& then) {
    if (x.rows == 1) return multiply_row<T, I>(gemv, x, y, out, then);
    const intptr_t n = x.rows, k = x.columns, m = y.columns;
    const Tiles t = tiles(n, k, m, OwnThreads::count());
    Pool::the().run(int(t.down * t.across), OwnThreads::count(), [&](int i) {
        const intptr_t row = i / t.across * t.rows, column = i % t.across * t.columns;
        const intptr_t rows = row + t.rows < n ? t.rows : n - row, columns = column + t.columns < m ? t.columns : m - column;
        reinterpret_cast<Gemm<T, I>>(const_cast<void*>(gemm))(
                ROWS_FIRST, x.transposed ? TRANSPOSED : AS_IT_IS, y.transposed ? TRANSPOSED : AS_IT_IS,
                I(rows), I(columns), I(k), T(1), x.at<T>(row, 0), I(x.pitch()), y.at<T>(0, column), I(y.pitch()), T(0),
                out + row * m + column, I(m));
        for (intptr_t j = row; j < row + rows; ++j) then(out + j * m + column, column, columns);
    });
}

// Whether the product is one for the BLAS, as arrays and as numbers
inline bool multiplies(const Matrix& x, const Matrix& y, const Array& out) {
    return blas.single_gemm && x.begin && y.dtype == x.dtype && out.is(x.dtype) && out.writeable() &&
           out.fields->axes == 2 && x.columns == y.rows && y.rows > 1 && out.fields->shape[0] == x.rows &&
           out.fields->shape[1] == y.columns && x.begin != y.begin &&  // np.dot has another way with x @ x.T
           (x.end <= out.begin || out.end <= x.begin) && (y.end <= out.begin || out.end <= y.begin) &&
           (blas.wide || (x.end - x.begin <= INT32_MAX && y.end - y.begin <= INT32_MAX && out.size <= INT32_MAX));
}

// out = x @ y, and then(row, column, count) over what each thread has just written: `count` numbers of a row from a column
// on, while they are in its cache
template <class F> void multiply(const Matrix& x, const Matrix& y, const Array& out, const F& then) {
    const OwnThreads ours;
    if (x.dtype == FLOAT32)
        blas.wide ? multiply<float, int64_t>(blas.single_gemm, blas.single_gemv, x, y, out.data<float>(), then)
                  : multiply<float, int32_t>(blas.single_gemm, blas.single_gemv, x, y, out.data<float>(), then);
    else
        blas.wide ? multiply<double, int64_t>(blas.double_gemm, blas.double_gemv, x, y, out.data<double>(), then)
                  : multiply<double, int32_t>(blas.double_gemm, blas.double_gemv, x, y, out.data<double>(), then);
}

}  // namespace gb
