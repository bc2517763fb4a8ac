// out = op(x, y, z, w), element by element: every operation of functors.cuh under three access patterns.
//
//   map_contiguous   all arrays have one dense layout: out[i] = op(x[i], y[i], ...)
//   map_rows         rows of a matrix: out[r, c], where an operand may be whole, a row (m,), a column (n, 1) or one element
//   map_strided      up to 8 dimensions with any strides: transposed, reversed, broadcast along inner axes
//
// x, y and z are arrays or, where the pointer is null, numbers given by value; w is always a number. Fewest bytes: each
// array operand once in, the result once out; a broadcast operand is small and stays in cache. out may be one of the
// operands (same address, same layout): a thread reads its elements before it writes them, hence no __restrict__.

#include "functors.cuh"
#include "patterns.cuh"

template <class Op, class T> using First = typename Op::template First<T>;    // type of x: T, or bool for a condition
template <class Op, class T> using Result = typename Op::template Result<T>;  // type of out: T, bool, or a cast's target

// an operand that is a number where its pointer is null
template <int N, class T, class A> __device__ inline void fetch(A (&to)[N], const T* pointer, A value, bool step, int count) {
    if (pointer) return fetch<N>(to, pointer, step, count);
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = value;
}

template <class Op, class T, int N> struct Operands {
    Acc<First<Op, T>> x[N];
    Acc<T> y[N], z[N];

    __device__ void apply_to(Result<Op, T>* out, Acc<T> w, int count) const {
        Pack<Result<Op, T>, N> pack;
#pragma unroll
        for (int k = 0; k < N; ++k) pack.value[k] = narrow<Result<Op, T>>(apply<Op>(x[k], y[k], z[k], w));
        store<N>(out, pack, count);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// launcher: grid-stride over packs of 16 bytes of T, blocks of 256

template <class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) map_contiguous(
        I n, Result<Op, T>* out, const First<Op, T>* x, const T* y, const T* z,
        Acc<First<Op, T>> x_value, Acc<T> y_value, Acc<T> z_value, Acc<T> w_value) {
    constexpr int N = VECTOR<T>;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        Operands<Op, T, N> operands;
        fetch(operands.x, x ? x + i : x, x_value, true, count);
        if (Op::operands > 1) fetch(operands.y, y ? y + i : y, y_value, true, count);
        if (Op::operands > 2) fetch(operands.z, z ? z + i : z, z_value, true, count);
        operands.apply_to(out + i, w_value, count);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: x over packs of columns, y over rows, both grid-stride; the block is as wide as a row needs, 256 threads in
// all.

template <class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) map_rows(
        I rows, I columns, RowStrides<I, 4> strides, Result<Op, T>* out, const First<Op, T>* x, const T* y, const T* z,
        Acc<First<Op, T>> x_value, Acc<T> y_value, Acc<T> z_value, Acc<T> w_value) {
    constexpr int N = VECTOR<T>;
    for (I r = I(blockIdx.y) * blockDim.y + threadIdx.y; r < rows; r += I(gridDim.y) * blockDim.y) {
        for (I c = N * grid_start<I>(); c < columns; c += N * grid_step<I>()) {
            const int count = left<N>(c, columns);
            Operands<Op, T, N> operands;
            fetch(operands.x, x ? x + r * strides.row[1] + c * strides.column[1] : x, x_value, strides.column[1], count);
            if (Op::operands > 1)
                fetch(operands.y, y ? y + r * strides.row[2] + c * strides.column[2] : y, y_value, strides.column[2], count);
            if (Op::operands > 2)
                fetch(operands.z, z ? z + r * strides.row[3] + c * strides.column[3] : z, z_value, strides.column[3], count);
            operands.apply_to(out + r * strides.row[0] + c, w_value, count);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: grid-stride over elements in C order of `shape` (dimensions already merged where memory allows)

template <class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) map_strided(
        I n, Layout<I, 4> layout, Result<Op, T>* out, const First<Op, T>* x, const T* y, const T* z,
        Acc<First<Op, T>> x_value, Acc<T> y_value, Acc<T> z_value, Acc<T> w_value) {
    for (I i = grid_start<I>(); i < n; i += grid_step<I>()) {
        I at[4];
        layout.locate(i, at);
        Operands<Op, T, 1> operands;
        fetch(operands.x, x ? x + at[1] : x, x_value, true, 1);
        if (Op::operands > 1) fetch(operands.y, y ? y + at[2] : y, y_value, true, 1);
        if (Op::operands > 2) fetch(operands.z, z ? z + at[3] : z, z_value, true, 1);
        operands.apply_to(out + at[0], w_value, 1);
    }
}
