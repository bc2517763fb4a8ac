"""How the emulator runs threads: barriers, warp operations, orders, shared memory, atomics, deadlocks."""

import numpy as np
import pytest

from gpu_backprop.backends.emulated import ORDERS, RawKernel
from gpu_backprop.core.errors import KernelError

pytestmark = pytest.mark.emulated

orders = pytest.mark.parametrize("order", ORDERS)

SOFTMAX = """
template <class T> __device__ T warp_sum(T v) {
    for (int d = 16; d; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
    return v;
}
__global__ void softmax(const float* x, float* out, int n) {  // a row a block; the last step only in the first warp
    __shared__ float partial[32];
    const float* row = x + blockIdx.x * n;
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(row[i]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f);
        if (threadIdx.x == 0) partial[0] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[blockIdx.x * n + i] = expf(row[i]) / partial[0];
}
"""


@orders
@pytest.mark.parametrize(("rows", "n", "threads"), [(5, 33, 32), (3, 256, 256), (2, 1000, 1024), (4, 7, 64)])
def test_reduction_with_shuffles_in_divergent_code(order, rows, n, threads):
    x = np.random.default_rng(0).normal(size=(rows, n)).astype(np.float32)
    out = np.empty_like(x)
    RawKernel(SOFTMAX, "softmax", order=order, seed=n)((rows,), (threads,), (x, out, n))
    expected = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(out, expected / expected.sum(1, keepdims=True), rtol=1e-5)


def test_all_orders_give_the_same_bits():
    x = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    results = []
    for order, seed in [("forward", 0), ("reversed", 0), ("shuffled", 1), ("shuffled", 2)]:
        out = np.empty_like(x)
        RawKernel(SOFTMAX, "softmax", order=order, seed=seed)((4,), (256,), (x, out, 300))
        results.append(out.tobytes())
    assert len(set(results)) == 1


TRACE = """
__global__ void trace(int* log, int* count) {  // the order in which blocks, and threads before and after a barrier, run
    log[atomicAdd(count, 1)] = 100 * blockIdx.x + threadIdx.x;
    __syncthreads();
    log[atomicAdd(count, 1)] = 100 * blockIdx.x + threadIdx.x + 50;
}
"""


def trace(order, seed=0):
    log, count = np.zeros(4 * 40 * 2, np.int32), np.zeros(1, np.int32)
    RawKernel(TRACE, "trace", order=order, seed=seed)((4,), (40,), (log, count))
    assert count[0] == log.size
    return log.tolist()


def test_orders_are_what_their_names_say():
    forward = [100 * b + t + 50 * half for b in range(4) for half in range(2) for t in range(40)]
    assert trace("forward") == forward
    assert trace("reversed") == [
        100 * b + t + 50 * half for b in range(3, -1, -1) for half in (0, 1) for t in range(39, -1, -1)
    ]
    assert trace("greedy") == forward  # no warp operations here: nothing to run ahead to
    shuffled = trace("shuffled", 1)
    assert shuffled == trace("shuffled", 1)
    assert shuffled != trace("shuffled", 2)
    assert sorted(shuffled) == sorted(forward)
    assert [value // 100 for value in shuffled[::80]] != [0, 1, 2, 3]
    for block in range(4):  # the barrier holds in any order
        steps = [value % 100 for value in shuffled if value // 100 == block]
        assert [step >= 50 for step in steps] == [False] * 40 + [True] * 40
        assert steps[:40] != sorted(steps[:40])
        assert steps[40:] != sorted(steps[40:])


def test_greedy_runs_a_warp_to_its_next_barrier():
    code = """
    __global__ void steps(int* log, int* count) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        __syncthreads();
        for (int step = 0; step < 3; ++step) {
            __syncwarp();
            if (lane == 0) log[atomicAdd(count, 1)] = 10 * warp + step;
        }
        __syncthreads();
        if (lane == 0) log[atomicAdd(count, 1)] = 10 * warp + 9;
    }
    """
    found = {}
    for order in ("forward", "greedy"):
        log, count = np.zeros(8, np.int32), np.zeros(1, np.int32)
        RawKernel(code, "steps", order=order)((1,), (64,), (log, count))
        found[order] = log.tolist()
    assert found["forward"] == [0, 10, 1, 11, 2, 12, 9, 19]
    assert found["greedy"] == [0, 1, 2, 10, 11, 12, 9, 19]


@orders
def test_barrier_counts_only_live_threads(order):
    code = """
    __global__ void early_exit(int* out, int n) {
        __shared__ int first;
        if (threadIdx.x >= n) return;
        if (threadIdx.x == n - 1) first = 41;
        __syncthreads();
        out[threadIdx.x] = first + 1;
    }
    """
    out = np.zeros(70, np.int32)
    RawKernel(code, "early_exit", order=order)((1,), (96,), (out, 70))
    assert (out == 42).all()


@orders
def test_warp_operations_count_only_live_lanes(order):
    code = """
    __global__ void tail(int* out, int n) {
        if (threadIdx.x >= n) return;
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, int(threadIdx.x), 1);
        out[threadIdx.x] += 100 * __popc(__ballot_sync(0xffffffffu, 1));
    }
    """
    out = np.zeros(52, np.int32)
    RawKernel(code, "tail", order=order, seed=2)((1,), (64,), (out, 52))
    assert out.tolist() == [(lane ^ 1) + 100 * (32 if lane < 32 else 20) for lane in range(52)]


@orders
def test_warp_operations_with_partial_masks(order):
    code = """
    __global__ void halves(int* sums, unsigned* ballots, int* rest) {
        const int lane = threadIdx.x % 32;
        const unsigned mask = lane < 8 ? 0x000000ffu : 0xffffff00u;
        int v = lane;
        if (lane < 8) {
            for (int d = 4; d; d /= 2) v += __shfl_xor_sync(mask, v, d, 8);
        } else {
            v = __shfl_sync(mask, v, 31);
            __syncwarp(mask);
        }
        sums[threadIdx.x] = v;
        ballots[threadIdx.x] = __ballot_sync(0xffffffffu, lane % 3 == 0);
        rest[4 * threadIdx.x] = __any_sync(0xffffffffu, lane == 17);
        rest[4 * threadIdx.x + 1] = __all_sync(0xffffffffu, lane < 31);
        rest[4 * threadIdx.x + 2] = __match_any_sync(0xffffffffu, lane / 16);
        rest[4 * threadIdx.x + 3] = __syncthreads_count(threadIdx.x < 5);
    }
    """
    sums, ballots, rest = np.zeros(64, np.int32), np.zeros(64, np.uint32), np.zeros((64, 4), np.int32)
    RawKernel(code, "halves", order=order, seed=3)((1,), (64,), (sums, ballots, rest))
    assert sums.tolist() == ([28] * 8 + [31] * 24) * 2
    assert set(ballots.tolist()) == {sum(1 << lane for lane in range(0, 32, 3))}
    matches = rest[:, 2].view(np.uint32).tolist()
    assert matches == ([0x0000FFFF] * 16 + [0xFFFF0000] * 16) * 2
    assert (rest[:, [0, 1, 3]] == (1, 0, 5)).all()


def test_shuffles_at_the_edges_of_a_group():
    code = """
    __global__ void edges(int* out) {
        const int lane = threadIdx.x;
        out[lane] = __shfl_up_sync(0xffffffffu, lane, 3);
        out[32 + lane] = __shfl_down_sync(0xffffffffu, lane, 3, 8);
        out[64 + lane] = __shfl_sync(0xffffffffu, lane, 5, 4);
        out[96 + lane] = __shfl_xor_sync(0xffffffffu, lane, 8, 8);
        out[128 + lane] = int(__shfl_down_sync(0xffffffffu, double(lane) + 0.5, 1u) * 2);
        out[160 + lane] = __shfl_up_sync(0xffffffffu, lane, 3, 8);
    }
    """
    out = np.zeros((6, 32), np.int32)
    RawKernel(code, "edges")((1,), (32,), (out,))
    lanes = np.arange(32)
    assert out[0].tolist() == [lane - 3 if lane >= 3 else lane for lane in lanes]
    assert out[1].tolist() == [lane + 3 if lane % 8 < 5 else lane for lane in lanes]
    assert out[2].tolist() == [lane // 4 * 4 + 1 for lane in lanes]
    # xor with the width leaves the group: upwards is refused, downwards is another group's lane
    assert out[3].tolist() == [lane ^ 8 if (lane ^ 8) <= lane | 7 else lane for lane in lanes]
    assert out[4].tolist() == [2 * min(lane + 1, 31) + 1 for lane in lanes]
    assert out[5].tolist() == [lane - 3 if lane % 8 >= 3 else lane for lane in lanes]


def test_a_lane_that_takes_no_part_gives_nan():
    code = """
    __global__ void partial_warp(float* out) { out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.0f, 16); }
    """
    out = np.zeros(48, np.float32)  # the second warp has 16 lanes: there is no lane 16 to read
    RawKernel(code, "partial_warp")((1,), (48,), (out,))
    assert (out[:32] == 1).all()
    assert np.isnan(out[32:]).all()


def test_three_dimensional_indices():
    code = """
    __global__ void where(int* out) {
        const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        const int b = (blockIdx.x * 10 + blockIdx.y) * 10 + blockIdx.z;
        const int t = (threadIdx.x * 10 + threadIdx.y) * 10 + threadIdx.z;
        out[block * blockDim.x * blockDim.y * blockDim.z + thread] = b * 1000 + t;
    }
    """
    out = np.zeros((2, 3, 4, 5, 3, 2), np.int32)  # z, y, x of blocks, then of threads
    RawKernel(code, "where", order="shuffled")((4, 3, 2), (2, 3, 5), (out,))
    bz, by, bx, tz, ty, tx = np.indices(out.shape)
    assert (out == ((bx * 10 + by) * 10 + bz) * 1000 + (tx * 10 + ty) * 10 + tz).all()


def test_shared_memory_is_nan_in_every_block():
    code = """
    __global__ void unset(float* out, double* wide, float* dynamic) {
        __shared__ float kept[8];
        __shared__ double also[3];
        extern __shared__ float more[];
        if (threadIdx.x == 0) { out[blockIdx.x] = kept[7]; wide[blockIdx.x] = also[2]; dynamic[blockIdx.x] = more[5]; }
        __syncthreads();
        kept[threadIdx.x] = also[threadIdx.x % 3] = more[threadIdx.x] = 1;
    }
    """
    out, wide, dynamic = np.zeros(4, np.float32), np.zeros(4), np.zeros(4, np.float32)
    RawKernel(code, "unset")((4,), (8,), (out, wide, dynamic), shared_mem=32)
    assert np.isnan(out).all()
    assert np.isnan(wide).all()
    assert np.isnan(dynamic).all()


@orders
def test_dynamic_shared_memory(order):
    code = """
    __global__ void reverse(int* x) {
        extern __shared__ __align__(16) int tile[];
        tile[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
    }
    """
    x = np.arange(100, dtype=np.int32)
    RawKernel(code, "reverse", order=order)((1,), (100,), (x,), shared_mem=400)
    assert x.tolist() == list(range(99, -1, -1))


@orders
def test_atomics_and_the_last_block(order):
    code = """
    __global__ void total(const unsigned* x, unsigned* sum, unsigned* extremes, unsigned* ticket, unsigned* out) {
        __shared__ bool last;
        atomicAdd(sum, x[blockIdx.x * blockDim.x + threadIdx.x]);
        atomicMax(extremes, x[blockIdx.x * blockDim.x + threadIdx.x]);
        atomicMin(extremes + 1, x[blockIdx.x * blockDim.x + threadIdx.x]);
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
        __syncthreads();
        if (last && threadIdx.x == 0) *out = *sum;
    }
    """
    x = np.random.default_rng(1).integers(0, 1000, 8 * 64).astype(np.uint32)
    sums, extremes = np.zeros(1, np.uint32), np.array([0, 9999], np.uint32)
    ticket, out = np.zeros(1, np.uint32), np.zeros(1, np.uint32)
    kernel = RawKernel(code, "total", order=order, seed=5)
    for launch in (1, 2):  # the ticket wraps by itself
        kernel((8,), (64,), (x, sums, extremes, ticket, out))
        assert out[0] == launch * x.sum()
        assert ticket[0] == 0
    assert extremes.tolist() == [x.max(), x.min()]


def test_active_mask_names_no_other_lane():
    code = "__global__ void active(unsigned* out) { out[threadIdx.x] = __activemask(); }"
    out = np.zeros(32, np.uint32)
    RawKernel(code, "active")((1,), (32,), (out,))
    assert out.tolist() == [1 << lane for lane in range(32)]


# -------------------------------------------------------------------------------------------------- no thread can go on


def failure(code, name, block=(64,), order="forward"):
    with pytest.raises(KernelError) as caught:
        RawKernel(code, name, order=order)((2,), block, (np.zeros(1024, np.float32),))
    return str(caught.value)


@orders
def test_barrier_that_some_threads_never_reach(order):
    code = """
    __global__ void stuck(float* x) {
        if (threadIdx.x < 32) {
            __syncthreads();
        } else {
            if (threadIdx.x == 40) __syncwarp(0x00000101u);
            x[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);
        }
    }
    """
    message = failure(code, "stuck", order=order)
    assert "kernel stuck of stuck.cu: block (" in message
    assert order == "shuffled" or f"block ({int(order == 'reversed')}, 0, 0)" in message
    assert "no thread can go on" in message
    assert "warp 0: all lanes at __syncthreads (stuck.cu:4)" in message
    assert "warp 1: lanes 0xfffffeff at __shfl_sync (stuck.cu:7) for all lanes" in message
    assert "lanes 0x00000100 at __syncwarp (stuck.cu:6) for lanes 0x00000101" in message


def test_the_emulator_recovers_from_a_deadlock():
    stuck = """
    __global__ void stuck(float* x) {
        if (threadIdx.x < 40) __syncthreads();
        else __syncwarp(0x80000100u);
    }
    """
    assert "lane 9 calls __syncwarp" in failure(stuck, "stuck")
    code = """
    __global__ void rest(int* x) {
        if (threadIdx.x < 40) return;
        __syncthreads();
        x[threadIdx.x] += 1;
    }
    """
    x = np.zeros(64, np.int32)
    RawKernel(code, "rest")((1,), (64,), (x,))
    assert x.tolist() == [0] * 40 + [1] * 24
    test_reduction_with_shuffles_in_divergent_code("forward", 3, 256, 256)
