// The gradient behind a bias and an activation, out = act(x + bias), in one pass:
//
//   dx = g act'(y)        db = sum over rows of dx        g, y, dx (rows, columns), db (columns)
//
// y is what the activation's gradient functor takes: out for relu, tanh and sigmoid, x + bias for the others. Fewest
// bytes: g and y once in, dx once out; db is a row. The bits are those of the gradient functor followed by the column sum.

#include "columns.cuh"
#include "functors.cuh"

template <class T> struct Pair {
    T g, y;
};

template <class Op, class T, class I> struct ActivationLane {
    const T *g, *y;
    T* dx;
    I pitch;
    Acc<T> z, w;

    __device__ Pair<T> load(I i) const { return {g[i * pitch], y[i * pitch]}; }
    __device__ Acc<T> element(Pair<T> pair, I i) const {
        dx[i * pitch] = narrow<T>(apply<Op>(widen(pair.g), widen(pair.y), z, w));
        return widen(dx[i * pitch]);  // as it is stored
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as reduce_columns, with outer = 1; z and w are what the functor takes beside g and y

template <class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) activation_bias_backward(
        I rows, I columns, T* dx, T* db, const T* g, const T* y, Acc<T> z, Acc<T> w, void* workspace, u32* tickets) {
    reduce_tiles<Sum<Acc<T>, I>>(
            I(1), rows, columns, workspace, tickets,
            [=](I, I column, bool) {
                return ActivationLane<Op, T, I>{g + column, y + column, dx + column, columns, z, w};
            },
            [=](I, I column, Acc<T> sum) { db[column] = narrow<T>(sum); });
}
