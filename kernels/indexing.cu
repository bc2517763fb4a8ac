// Rows of a table by index, the gradient of that, a check of indices, one-hot rows, and the share of rows whose largest score is at the label.
//
// Indices are 64-bit. One out of range reads and writes nothing: its row comes out as zeros, and the fault word tells.

#include "reducers.cuh"

// The row that an index names, or -1; with `wrap`, -1 names the last row, as in NumPy.
__device__ inline long long row_of(long long index, long long rows, bool wrap) {
    if (wrap && index < 0) index += rows;
    return index >= 0 && index < rows ? index : -1;
}

// ---------------------------------------------------------------------------------------------------------------------
// take_rows: out[i, :] = table[index[i], :]
//
// table (rows, width), its rows `pitch` apart, and indices (n,) in; out (n, width) out. Fewest bytes: the indices and n
// rows in, n rows out. A thread copies a pack of 16 bytes: neighbouring threads walk along a row, then into the next.
// launcher: grid packs or fewer

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) take_rows(
        I n, I width, I rows, I pitch, T* out, const T* table, const long long* indices, bool wrap, u64* fault) {
    constexpr int N = VECTOR<T>;
    const I across = (width + N - 1) / N;
    for (I item = grid_start<I>(); item < n * across; item += grid_step<I>()) {
        const I i = item / across, column = (item - i * across) * N;
        const int count = left<N>(column, width);
        const long long index = indices[i], row = row_of(index, rows, wrap);
        if (row < 0 && column == 0) report(fault, index, 0, rows);  // of axis 0
        const Pack<T, N> pack = load<N>(table + I(row) * pitch + column, row < 0 ? 0 : count);
        store<N>(out + i * width + column, pack, count);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// check_indices: reports an index that is not one of `limit` places along `axis`; writes nothing else
//
// indices (n,) in. Fewest bytes: the indices in. For what the array module indexes: CuPy wraps round in silence.
// launcher: grid packs or fewer

template <class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) check_indices(
        I n, const long long* indices, long long axis, long long limit, bool wrap, u64* fault) {
    constexpr int N = VECTOR<long long>;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        const Pack<long long, N> pack = load<N>(indices + i, count);
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < count && row_of(pack.value[k], limit, wrap) < 0) report(fault, pack.value[k], axis, limit);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// add_rows: out[r, :] = sum of g[i, :] over the i with index[i] == r, added up in order of i; 0 for rows never named
//
// g (n, width) and indices (n,) in, out (rows, width) out. Fewest bytes: g and the indices once in, out once out. Every
// warp owns a tile of out, `span` columns wide, and holds its sums in shared memory, where a lane owns its columns: so
// nobody waits for anybody. It walks all indices in order, 32 * AHEAD at once, and reads g only where an index falls into
// its rows. So g is read once, while the indices are read once a tile, mostly from cache. An index equal to `padding`, or
// out of range, adds nothing.
// launcher: grid a warp a tile or fewer, block (32, 8); span is 32 packs, or a power of 2 from one pack on, width or more

constexpr int AHEAD = 4;  // loads in flight
template <class A> constexpr int CELLS = 4096 / int(sizeof(A));  // sums in a tile

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) add_rows(
        I n, I width, I rows, I span, T* out, const T* g, const long long* indices, long long padding, bool wrap) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    __shared__ A cells[WARPS][CELLS<A>];
    const int lane = threadIdx.x;
    A* sums = cells[threadIdx.y] + N * lane;
    const I height = CELLS<A> / span, across = (width + span - 1) / span, tiles = (rows + height - 1) / height * across;

    for (I tile = I(blockIdx.x) * WARPS + threadIdx.y; tile < tiles; tile += I(gridDim.x) * WARPS) {
        const I band = tile / across, top = band * height, column = (tile - band * across) * span + N * lane;
        const I tall = rows - top < height ? rows - top : height;
        const int count = column < width ? left<N>(column, width) : 0;  // columns of this lane
        for (I r = 0; r < tall && count > 0; ++r)
#pragma unroll
            for (int k = 0; k < N; ++k) sums[r * span + k] = A(0);

        for (I base = 0; base < n; base += AHEAD * WARP) {
            I local[AHEAD];  // the row of the tile that index base + a * WARP + lane names, or -1
            bool any = false;
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                const I i = base + a * WARP + lane;
                const long long index = i < n ? indices[i] : padding;
                const long long row = index == padding ? -1 : row_of(index, rows, wrap);
                local[a] = row >= top && row < top + tall ? I(row) - top : I(-1);
                any |= local[a] >= 0;
            }
            if (!__any_sync(ALL_LANES, any)) continue;
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                u32 named = __ballot_sync(ALL_LANES, local[a] >= 0);
                while (named != 0) {  // AHEAD rows of g on their way, then added in order
                    I row[AHEAD];
                    Pack<T, N> packs[AHEAD];
#pragma unroll
                    for (int b = 0; b < AHEAD; ++b) {
                        const int source = named != 0 ? __ffs(named) - 1 : 0;
                        row[b] = __shfl_sync(ALL_LANES, local[a], source);
                        if (named == 0) row[b] = I(-1);
                        named &= named - 1;
                        packs[b] = load<N>(g + (base + a * WARP + source) * width + column, row[b] < 0 ? 0 : count);
                    }
#pragma unroll
                    for (int b = 0; b < AHEAD; ++b)
                        if (row[b] >= 0 && count > 0)
#pragma unroll
                            for (int k = 0; k < N; ++k) sums[row[b] * span + k] += widen(packs[b].value[k]);
                }
            }
        }
        for (I r = 0; r < tall && count > 0; ++r) {
            Pack<T, N> pack;
#pragma unroll
            for (int k = 0; k < N; ++k) pack.value[k] = narrow<T>(sums[r * span + k]);
            store<N>(out + (top + r) * width + column, pack, count);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// one_hot_flat: out[i, c] = 1 where c == label[i], else 0
//
// labels (n,) in, out (n, classes) out, of size n * classes. Fewest bytes: the labels in, out once out.
// launcher: grid packs or fewer

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) one_hot_flat(
        I size, I classes, T* out, const long long* labels, u64* fault) {
    constexpr int N = VECTOR<T>;
    for (I i = N * grid_start<I>(); i < size; i += N * grid_step<I>()) {
        const int count = left<N>(i, size);
        I row = i / classes, column = i - row * classes;
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (k >= count) break;
            const long long label = labels[row];
            if (column == 0 && row_of(label, classes, false) < 0) report(fault, label, row, classes);
            pack.value[k] = T(label == column ? 1.0f : 0.0f);
            if (++column == classes) {
                column = 0;
                ++row;
            }
        }
        store<N>(out + i, pack, count);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// accuracy_rows: out = (number of rows whose first largest score, or first NaN, is at the label) / rows
//
// scores (rows, n) and labels (rows,) in, one float out. Fewest bytes: the scores and labels once in.
// launcher: grid rows or fewer, a warp or a block a row; partial (blocks,) and one ticket

// Over a block of any shape; integers, so the order does not matter. Barriers must lie between two calls.
__device__ inline long long block_count(long long count) {
    __shared__ long long warps[WARPS];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    count = warp_reduce<Plus<long long>>(count);
    if (thread % WARP == 0) warps[thread / WARP] = count;
    __syncthreads();
    count = 0;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) count += warps[warp];
    return count;
}

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) accuracy_rows(
        I rows, I n, float* out, const T* scores, const long long* labels, long long* partial, u32* ticket) {
    using R = ArgMax<Acc<T>, I>;
    constexpr int N = VECTOR<T>;
    long long hits = 0;
    for (I row = I(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += I(gridDim.x) * blockDim.y) {
        typename R::State state = R::identity();
        for (I i = N * I(threadIdx.x); i < n; i += N * I(blockDim.x)) {
            const int count = left<N>(i, n);
            const Pack<T, N> pack = load<N>(scores + row * n + i, count);
#pragma unroll
            for (int k = 0; k < N; ++k)
                if (k < count) state = R::combine(state, R::element(widen(pack.value[k]), i + k));
        }
        state = row_reduce<R>(state);
        if (threadIdx.x == 0) hits += state.index == labels[row];
    }
    hits = block_count(hits);
    if (threadIdx.x == 0 && threadIdx.y == 0) partial[blockIdx.x] = hits;
    if (!last_block(ticket, gridDim.x)) return;
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    hits = 0;
    for (u32 block = thread; block < gridDim.x; block += BLOCK) hits += partial[block];
    hits = block_count(hits);
    if (thread == 0) *out = float(double(hits) / double(rows));
}
