// Softmax and its kin along the rows of x (rows, n), and softmax cross-entropy: each formula stands at its kernel.
//
// Fewest bytes: softmax and log_softmax x in, out out; their gradients g and out in, dx out; cross-entropy x in and a few
// numbers a row out; its gradient x in, dx out.
//
// A row belongs to a warp, in blocks of (32, 8), or to a block of (256, 1) when it is long. Each row is walked twice, once
// to reduce it and once to write: DRAM sees it once (what does not stay in registers is still in cache the second time).

#include "reducers.cuh"
#include "rows.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// softmax       out = exp(x - max(x)) / sum(exp(x - max(x)))       x (rows, n) in, out (rows, n) out
// log_softmax   out = x - max(x) - log(sum(exp(x - max(x))))

// A term of a sum of such: what its 22 bits lack is lost in the sum, for the further below 1 a term lies the less it counts
template <class A> __device__ inline A term(A x) { return exp(x); }
template <> __device__ inline float term(float x) { return __expf(x); }

// Of one thread's share: one rescaling of the sum a chunk. The last chunk stays in `chunk`. What is infinite is left to
// give NaN, as it will in the end, but for a maximum of -inf: other threads may have more.
template <class A> __device__ inline A level(A top) { return top == -infinity<A>() ? A(0) : top; }

template <bool FULL, class T, class I>
__device__ inline typename LogSum<Acc<T>>::State own_logsum(const T* x, I n, Row<T>& chunk) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    A top = -infinity<A>(), sum = A(0);
    Row<T>::each(n, [&](I i) {
        chunk.template read<FULL>(x, i, n, narrow<T>(-infinity<A>()));
        const A before = top;
        chunk.template packs_of<FULL>(i, n, [&](int u) {
#pragma unroll
            for (int k = 0; k < N; ++k) top = fmax(top, widen(chunk.packs[u].value[k]));
        });
        const A from = level(top);
        sum *= exp(before - from);
        chunk.template packs_of<FULL>(i, n, [&](int u) {
            A part = term(widen(chunk.packs[u].value[0]) - from);  // N exponentials that wait for nothing
#pragma unroll
            for (int k = 1; k < N; ++k) part += term(widen(chunk.packs[u].value[k]) - from);
            sum += part;
        });
    });
    return {top, sum};
}

// of the row; the sum is NaN where the maximum is infinite
template <class I, class State> __device__ inline State row_logsum(State own) {
    using A = decltype(own.sum);
    const A top = row_reduce<Max<A, I>>(own.maximum);
    return {top, row_reduce<Plus<A>>(own.sum * exp(own.maximum - level(top))) + (top - top)};
}

// launcher: grid rows or fewer
template <bool LOG, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) softmax_rows(I rows, I n, T* out, const T* x) {
    using A = Acc<T>;
    const bool full = Row<T>::is_full(x, n);
    for (I row = first_row<I>(); row < rows; row += row_step<I>()) {
        Row<T> chunk;
        const auto state = row_logsum<I>(
                full ? own_logsum<true>(x + row * n, n, chunk) : own_logsum<false>(x + row * n, n, chunk));
        const A top = state.maximum, scale = LOG ? log(state.sum) : A(1) / state.sum;
        Row<T>::each(n, [&](I i) {
            if (!chunk.is_whole(n)) chunk.read(x + row * n, i, n, T(0.0f));
            chunk.write(out + row * n, i, n, [&](A value, int, int) {
                const A z = value - top;  // before the logarithm: a large maximum must not eat digits
                return LOG ? z - scale : exp(z) * scale;
            });
        });
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// softmax_backward       dx = out * (g - sum(g * out))              g, out (rows, n) in, dx (rows, n) out
// log_softmax_backward   dx = g - exp(out) * sum(g)
// launcher: grid rows or fewer

template <bool LOG, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) softmax_backward_rows(I rows, I n, T* dx, const T* g, const T* out) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    for (I row = first_row<I>(); row < rows; row += row_step<I>()) {
        const I at = row * n;
        Pair<T> grads, saved;
        A sum = A(0);
        auto read = [&](I i) {
            grads.read(g + at, i, n, T(0.0f));
            saved.read(out + at, i, n, T(0.0f));
        };
        Pair<T>::each(n, [&](I i) {
            read(i);
            grads.packs_of(i, n, [&](int u) {
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    const A dy = widen(grads.packs[u].value[k]);
                    sum += LOG ? dy : dy * widen(saved.packs[u].value[k]);
                }
            });
        });
        sum = row_reduce<Plus<A>>(sum);
        Pair<T>::each(n, [&](I i) {
            if (!grads.is_whole(n)) read(i);
            grads.write(dx + at, i, n, [&](A dy, int u, int k) {
                const A y = widen(saved.packs[u].value[k]);
                return LOG ? dy - exp(y) * sum : y * (dy - sum);
            });
        });
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// softmax_cross_entropy, as torch.nn.functional.cross_entropy defines it. For row i with label y (e: smoothing, c: classes):
//
//   loss[i] = (1 - e) weight[y] (lse - x[y]) + e / c * sum_j weight[j] (lse - x[j]);   0 where y == ignore_index
//   lse     = top + log(sum), top = max_j x[j], sum = sum_j exp(x[j] - top)
//   total   = sum of weight[y] over the rows that count
//   out     = loss, sum(loss) or sum(loss) / total
//   dx[i,j] = scale_i (p[j] ((1 - e) weight[y] + e / c * sum(weight)) - [j == y] (1 - e) weight[y] - e / c * weight[j]),
//             p = exp(x - top) / sum, scale_i = g[i], g or g / total
//
// Forward: x (n, c) in once, top and sum (n,) out. Backward: x in, dx out: the probabilities are never stored, and top and
// sum are kept apart because lse alone would round away log(sum) beside large logits. A label outside [0, c) that is not
// ignore_index reads nothing: its row counts as ignored, and the fault word tells the backend.

enum Reduction { NONE = 0, MEAN = 1, SUM = 2 };

struct Smoothing {  // of double, so that both sides lay it out alike
    double hit;     // 1 - e
    double every;   // e / c
};

__device__ inline bool usable(long long label, long long classes, long long ignored, long long row, u64* fault) {
    if (label == ignored) return false;
    if (label >= 0 && label < classes) return true;
    if (threadIdx.x == 0) report(fault, label, row, classes);
    return false;
}

template <class A> struct RowSums {  // of weight and of weight * (top - x)
    A weights, distances;
};
template <class A> struct AddRowSums {
    using State = RowSums<A>;
    __device__ static State identity() { return {A(0), A(0)}; }
    __device__ static State combine(State a, State b) { return {a.weights + b.weights, a.distances + b.distances}; }
};

template <class T, class I> __device__ inline RowSums<Acc<T>> row_sums(const T* x, const T* weight, Acc<T> top, I n) {
    using A = Acc<T>;
    RowSums<A> sums = {A(0), A(0)};
    for (I i = threadIdx.x; i < n; i += blockDim.x) {
        const A w = weight ? widen(weight[i]) : A(1);
        sums.weights += w;
        if (x) sums.distances += w * (top - widen(x[i]));
    }
    return row_reduce<AddRowSums<A>>(sums);
}

// launcher: grid rows or fewer, a function of the shape alone; partial (2 * blocks) sums and one ticket. out is loss (n,)
// for NONE, else one number.
template <class T, class I>
__global__ void __launch_bounds__(BLOCK, sizeof(T) == 8 || sizeof(I) == 8 || TIGHT ? RESIDENT : 4) cross_entropy_rows(
        I rows, I n, const T* x, const long long* labels, const T* weight, T* out, Acc<T>* tops, Acc<T>* sums, Acc<T>* total,
        long long ignored, Smoothing smoothing, int reduction, Acc<T>* partial, u32* ticket, u64* fault) {
    using A = Acc<T>;
    __shared__ A losses[WARPS], weights[WARPS];
    A loss_sum = A(0), weight_sum = A(0);
    auto finish = [&](I row, long long label, typename LogSum<A>::State own) {
        const T* logits = x + row * n;
        const bool counts = usable(label, n, ignored, row, fault);  // the same for all threads of the row
        const A picked = counts ? widen(logits[label]) : A(0), w = counts && weight ? widen(weight[label]) : A(1);
        const auto state = row_logsum<I>(own);
        const A sum = state.sum;
        A loss = A(0);
        if (counts) {
            loss = A(smoothing.hit) * (w * (state.maximum - picked + log(sum)));
            if (smoothing.every != 0.0) {
                const RowSums<A> whole = row_sums(logits, weight, state.maximum, n);
                loss += A(smoothing.every) * (log(sum) * whole.weights + whole.distances);
            }
            weight_sum += w;
        }
        loss_sum += loss;
        if (threadIdx.x == 0) {
            tops[row] = state.maximum;
            sums[row] = sum;
            if (reduction == NONE) out[row] = narrow<T>(loss);
        }
    };
    Row<T> chunk;
    if (sizeof(T) < 8 && Row<T>::is_full(x, n))  // two loops, and of doubles one, for registers would spill
        for (I row = first_row<I>(); row < rows; row += row_step<I>()) {
            const long long label = labels[row];  // on its way while the row is read
            finish(row, label, own_logsum<true>(x + row * n, n, chunk));
        }
    else
        for (I row = first_row<I>(); row < rows; row += row_step<I>()) {
            const auto own = own_logsum<false>(x + row * n, n, chunk);
            const long long label = (__syncwarp(), labels[row]);  // not before: registers are scarce here
            finish(row, label, own);
        }
    // rows -> the block's sums -> partial -> the last block adds all partials, every step in a fixed order
    if (threadIdx.x == 0) {
        losses[threadIdx.y] = loss_sum;
        weights[threadIdx.y] = weight_sum;
    }
    __syncthreads();
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    if (thread == 0) {
        for (int y = 1; y < int(blockDim.y); ++y) {
            loss_sum += losses[y];
            weight_sum += weights[y];
        }
        partial[2 * blockIdx.x] = loss_sum;
        partial[2 * blockIdx.x + 1] = weight_sum;
    }
    if (!last_block(ticket, gridDim.x)) return;
    loss_sum = weight_sum = A(0);
#pragma unroll 4
    for (u32 block = thread; block < gridDim.x; block += BLOCK) {  // four loads at once
        loss_sum += partial[2 * block];
        weight_sum += partial[2 * block + 1];
    }
    const RowSums<A> lanes = warp_reduce<AddRowSums<A>>({loss_sum, weight_sum});  // last_block kept the reads above apart
    if (thread % WARP == 0) {
        losses[thread / WARP] = lanes.weights;
        weights[thread / WARP] = lanes.distances;
    }
    __syncthreads();
    if (thread != 0) return;
    for (int warp = 1; warp < WARPS; ++warp) {
        losses[0] += losses[warp];
        weights[0] += weights[warp];
    }
    *total = weights[0];
    if (reduction != NONE) *out = narrow<T>(reduction == MEAN ? losses[0] / weights[0] : losses[0]);
}

// launcher: grid rows or fewer; g is (n,) for NONE, else one number
template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) cross_entropy_backward_rows(
        I rows, I n, const T* g, const T* x, const long long* labels, const T* weight, const Acc<T>* tops,
        const Acc<T>* sums, const Acc<T>* total, T* dx, long long ignored, Smoothing smoothing, int reduction, u64* fault) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    const A every = A(smoothing.every);
    for (I row = first_row<I>(); row < rows; row += row_step<I>()) {
        const long long label = labels[row];
        A scale = A(0), hit = A(0), mass = A(0);
        const bool counts = usable(label, n, ignored, row, fault);
        if (counts) {
            scale = widen(g[reduction == NONE ? row : I(0)]);
            if (reduction == MEAN) scale /= *total;
            hit = A(smoothing.hit) * (weight ? widen(weight[label]) : A(1));
            mass = hit;
            if (every != A(0)) mass += every * row_sums(static_cast<const T*>(nullptr), weight, A(0), n).weights;
        }
        const A top = tops[row], share = mass / sums[row];
        each_pack<N>(n, [&](I i, int count) {
            Pack<T, N> pack = load<N>(x + row * n + i, count);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                A d = exp(widen(pack.value[k]) - top) * share;
                if (i + k == label) d -= hit;
                if (every != A(0) && k < count) d -= every * (weight ? widen(weight[i + k]) : A(1));
                pack.value[k] = narrow<T>(counts ? scale * d : A(0));
            }
            store<N>(dx + row * n + i, pack, count);
        });
    }
}
