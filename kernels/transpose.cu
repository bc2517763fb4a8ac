// A transposed copy: out[b, r, c] = x[b, r, c], out (batches, rows, columns) with rows that lie along memory, x with columns
// that do.
//
// Fewest bytes: x once in, out once out. A tile of 32 x 32 elements goes through shared memory, so that a warp reads 32
// neighbours of x and writes 32 neighbours of out; a row of 33 words puts a column of the tile into 32 different banks.

#include "common.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// launcher: grid tiles or fewer, block (32, 8); pitches in elements, from row to row of out and from column to column of x

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) transpose_tiles(
        I batches, I rows, I columns, I out_batch, I out_pitch, I x_batch, I x_pitch, T* out, const T* x) {
    __shared__ BitsOf<T> tile[WARP][WARP + 1];
    const BitsOf<T>* from = reinterpret_cast<const BitsOf<T>*>(x);
    BitsOf<T>* to = reinterpret_cast<BitsOf<T>*>(out);
    const int lane = threadIdx.x, warp = threadIdx.y;
    const I across = (columns + WARP - 1) / WARP, down = (rows + WARP - 1) / WARP;
    for (I t = blockIdx.x; t < batches * down * across; t += gridDim.x) {
        const I strip = t / across, batch = strip / down;
        const I column = (t - strip * across) * WARP, row = (strip - batch * down) * WARP;
        __syncthreads();  // the tile before has been written out
#pragma unroll
        for (int k = 0; k < WARP; k += WARPS)
            if (row + lane < rows && column + warp + k < columns)
                tile[warp + k][lane] = from[batch * x_batch + (column + warp + k) * x_pitch + row + lane];
        __syncthreads();
#pragma unroll
        for (int k = 0; k < WARP; k += WARPS)
            if (row + warp + k < rows && column + lane < columns)
                to[batch * out_batch + (row + warp + k) * out_pitch + column + lane] = tile[lane][warp + k];
    }
}
