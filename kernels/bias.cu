// The gradient behind a bias and an activation, out = act(x + bias), in one pass:
//
//   dx = g act'(y)        db = sum over rows of dx        g, y, dx (rows, columns), db (columns)
//
// y is what the activation's gradient functor takes: out for relu, tanh and sigmoid, x + bias for the others. Fewest
// bytes: g and y once in, dx once out; db is a row. The bits are those of the gradient functor followed by the column sum.

#include "columns.cuh"
#include "functors.cuh"

template <class T, int N> struct Pair {
    Pack<T, N> g, y;
};

template <class Op, class T, class I> struct ActivationLane {
    static constexpr int N = Tile<true, T, I>::N;
    static constexpr int ROWS = sizeof(T) == 8 ? 1 : 2;  // of two arrays; GELU in double takes the other registers
    const T *g, *y;
    T* dx;
    I pitch;
    int count;
    Acc<T> z, w;

    __device__ Pair<T, N> load(I i) const { return {::load<N>(g + i * pitch, count), ::load<N>(y + i * pitch, count)}; }
    __device__ void values(Pair<T, N> pair, I i, Acc<T> (&to)[N]) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            pair.g.value[k] = narrow<T>(apply<Op>(widen(pair.g.value[k]), widen(pair.y.value[k]), z, w));
            to[k] = widen(pair.g.value[k]);  // as it is stored
        }
        store<N>(dx + i * pitch, pair.g, count);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as reduce_columns, with outer = 1; z and w are what the functor takes beside g and y

template <class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) activation_bias_backward(
        I rows, I columns, T* dx, T* db, const T* g, const T* y, Acc<T> z, Acc<T> w, void* workspace, u32* tickets) {
    reduce_tiles<Sum<Acc<T>, I>, T>(
            I(1), rows, columns, workspace, tickets,
            [=](I, I column, int count) {
                return ActivationLane<Op, T, I>{g + column, y + column, dx + column, columns, count, z, w};
            },
            [=](I, I column, Acc<T> sum) { db[column] = narrow<T>(sum); });
}
