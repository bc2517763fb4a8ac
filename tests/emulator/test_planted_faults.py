"""The emulator is tested by planted faults: each is found by the means that docs/emulated.md names for it.

A row is a sound kernel and one change that breaks it. The sound kernel must give the same bits in all orders and no
message; the broken one must be found, in the words of the row.
"""

from __future__ import annotations

import subprocess
from typing import NamedTuple

import numpy as np
import pytest

from gpu_backprop.backends.emulated import ORDERS, RawKernel
from gpu_backprop.backends.guards import guarded_empty
from gpu_backprop.core.errors import KernelError

from .sanitized import run_sanitized

pytestmark = pytest.mark.emulated

N = 128  # elements of x and out; the kernels run in 2 blocks of 64 threads
ORDER = "the order of threads changes the result"
UNSET = "unset memory is in the result"

PRELUDE = """
__global__ void fault(const float* x, float* out, int n) {
    __shared__ float tile[64];
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
"""

BLOCK_SUM = """
__device__ float block_sum(float v) {
    __shared__ float warps[2];
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    __syncthreads();  // somebody may still be reading what the call before left
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    return warps[0] + warps[1];
}
"""


class Fault(NamedTuple):
    sound: str  # the body of the kernel, or the whole source
    old: str
    new: str
    told: str  # ORDER, UNSET, or a part of the error's text


FAULTS = {
    "a missing barrier": Fault(
        "tile[t] = x[i]; __syncthreads(); out[i] = tile[63 - t];",
        "__syncthreads();", "", ORDER,
    ),
    "a race on shared memory": Fault(
        "tile[t] = x[i]; __syncthreads(); const float left = tile[t ? t - 1 : 0]; __syncthreads();"
        "tile[t] += left; __syncthreads(); out[i] = tile[t];",
        "__syncthreads();tile[t] += left", "tile[t] += left", ORDER,
    ),
    "a race between blocks": Fault(
        "out[i] = x[i];",
        "out[i] =", "out[t] =", ORDER,
    ),
    "shared memory used again too soon": Fault(
        BLOCK_SUM + PRELUDE + "const float sum = block_sum(x[i]); out[i] = sum / (1 + block_sum(x[i] / sum)); }",
        "    __syncthreads();  // somebody", "    // somebody", ORDER,
    ),
    "an unfilled output": Fault(
        "if (i < n) out[i] = x[i];",
        "i < n", "i < n - 1", UNSET,
    ),
    "uninitialised shared memory": Fault(
        "tile[t] = 0; for (int k = 0; k < 3; ++k) tile[t] += x[i]; out[i] = tile[t];",
        "tile[t] = 0;", "", UNSET,
    ),
    "uninitialised dynamic shared memory": Fault(
        "extern __shared__ float more[]; more[t] = 1; out[i] = x[i] + more[t];",
        "more[t] = 1;", "", UNSET,
    ),
    "an out-of-bounds write": Fault(
        "out[i] = x[i];",
        "out[i]", "out[i + 1]",
        "wrote outside argument 1 (float32 array of shape (128,)): 4 bytes, the first 0 bytes past its memory's end",
    ),
    "an out-of-bounds write before the array": Fault(
        "out[i] = x[i];",
        "out[i]", "out[i - 1]",
        "wrote outside argument 1 (float32 array of shape (128,)): 4 bytes, the first 4 bytes before its memory begins",
    ),
    "an index outside shared memory": Fault(
        "tile[t] = x[i]; out[i] = tile[t];",
        "tile[t] = x", "tile[t + 1] = x",
        "index 64 is outside the array of type 'float [64]' at fault.cu:5",
    ),
    "a shuffle whose mask leaves out the caller": Fault(
        "out[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);",
        "0xffffffffu", "0x0000ffffu",
        "lane 16 calls __shfl_xor_sync (fault.cu:5) with mask 0x0000ffff, which does not name it",
    ),
    "a shuffle whose mask names lanes elsewhere": Fault(
        "float v = x[i]; if (t % 32 < 16) v = __shfl_xor_sync(0x0000ffffu, v, 1); __syncthreads(); out[i] = v;",
        "0x0000ffffu", "0xffffffffu",
        "lanes 0x0000ffff at __shfl_xor_sync (fault.cu:5) for all lanes, lanes 0xffff0000 at __syncthreads",
    ),
    "a shuffle that reads a lane that takes no part": Fault(
        "out[i] = x[i]; if (t % 32 < 16) out[i] = __shfl_down_sync(0x0000ffffu, x[i], 8, 16);",
        "8, 16)", "8, 32)", UNSET,
    ),
    "a warp at two operations": Fault(
        "const unsigned all = 0xffffffffu; out[i] = __ballot_sync(all, 1) + __shfl_sync(all, x[i], 0);",
        "__ballot_sync(all, 1) +", "t == 3 ? __ballot_sync(all, 1) :",
        "meet at different operations: ",
    ),
    "a barrier in divergent code": Fault(
        "out[i] = x[i];\nif (t % 2) out[i] += 1;\n__syncthreads();",
        "out[i] += 1;", "__syncthreads();",
        "threads of the block meet at different barriers: __syncthreads (fault.cu:",
    ),
    "a barrier that some threads never reach": Fault(
        "out[i] = x[i]; __syncthreads();\n__syncwarp();",
        "__syncthreads();", "if (t >= 32 && t < 48) __syncwarp(); else __syncthreads();",
        "no thread can go on, each waits for others; warp 0: all lanes at __syncthreads (fault.cu:5); warp 1: lanes ",
    ),
    "a misaligned vector access": Fault(
        "reinterpret_cast<float4*>(out)[i / 4] = *reinterpret_cast<const float4*>(x + i / 4 * 4);",
        "x + i / 4 * 4", "x + i / 4 * 4 + (t > 60)",
        "misaligned access at fault.cu:5: address ",
    ),
    "an access to no memory": Fault(
        "out[i] = x[i];",
        "x[i]", "x[i + (1ll << 44)]",
        "which is no memory",
    ),
    "an integer divided by zero": Fault(
        "out[i] = x[i / (n - 127)];",
        "n - 127", "n - 128",
        "integer division by zero at fault.cu:5",
    ),
}  # fmt: skip


def source(body: str) -> str:
    return body if "__global__" in body else f"{PRELUDE}{body}\n}}"


def findings(code: str) -> set[str]:
    """What running in all orders tells of a kernel."""
    found, results = set(), set()
    for order in ORDERS:
        x, out = guarded_empty(N, np.float32), guarded_empty(N, np.float32)
        x[:] = np.arange(N)
        try:
            RawKernel(code, "fault", order=order, seed=1)((2,), (64,), (x, out, N), shared_mem=256)
        except KernelError as error:
            found.add(str(error))
        else:
            results.add(out.tobytes())
            if np.isnan(out).any():
                found.add(UNSET)
    return found | ({ORDER} if len(results) > 1 else set())


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault(name):
    fault = FAULTS[name]
    assert findings(source(fault.sound)) == set()
    assert fault.old in fault.sound
    found = findings(source(fault.sound.replace(fault.old, fault.new, 1)))
    assert any(fault.told in text for text in found), found
    if fault.told not in (ORDER, UNSET):
        assert all("kernel fault of fault.cu: " in text for text in found), found


def test_only_the_greedy_order_sees_memory_used_again_too_soon():
    """Other orders move all warps from wait to wait together; the fault needs one that runs ahead."""
    fault = FAULTS["shared memory used again too soon"]
    results = {}
    for order in ORDERS:
        x, out = np.arange(N, dtype=np.float32), np.zeros(N, np.float32)
        RawKernel(source(fault.sound.replace(fault.old, fault.new)), "fault", order=order)((2,), (64,), (x, out, N))
        results[order] = out.tobytes()
    assert results["forward"] == results["reversed"] == results["shuffled"] != results["greedy"]


READS = """
import sys
import numpy as np
from gpu_backprop.backends.emulated import EmulatedLauncher, RawKernel
x, out = (EmulatedLauncher().empty(128, np.float32) for _ in range(2))
x[:] = 1
RawKernel(sys.argv[1], "fault")((2,), (64,), (x, out, 128))
"""


@pytest.mark.parametrize(("index", "told"), [("i", None), ("i + 1", "READ of size 4"), ("i - 1", "READ of size 4")])
def test_out_of_bounds_read(index, told):
    """Nothing else sees a read outside an array; a build with AddressSanitizer does, in a process of its own."""
    child: subprocess.CompletedProcess[str] = run_sanitized("address", "-c", READS, source(f"out[i] = x[{index}];"))
    assert (child.returncode == 0) == (told is None), child.stderr
    if told:
        assert "AddressSanitizer: heap-buffer-overflow" in child.stderr
        assert told in child.stderr
        assert "fault.cu:5" in child.stderr
