"""Compile every kernel for a GPU and for the emulated device, on all cores, into the cache that tests and runs read.

    python benchmarks/compile_all.py                     # for the GPU that is here
    python benchmarks/compile_all.py --arch sm_90        # for another; needs no GPU
    python benchmarks/compile_all.py --arch none --only elementwise.cu

Serially, as needed, this takes minutes of a test run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    from gpu_backprop.backends import host_compiler, kernels, table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="here", help='"sm_90", "here" or "none"')
    parser.add_argument("--only", default="", help="kernel files with this in their name")
    args = parser.parse_args()
    arch = kernels.CudaLauncher().properties.architecture if args.arch == "here" else args.arch
    batches = [batch for batch in table.batches(("int",)) if args.only in batch[0].file]

    def for_gpu(batch: list[kernels.Kernel]) -> None:
        kernels.cubins(batch[0].file, [kernel.expression for kernel in batch], arch)

    begun, jobs = time.perf_counter(), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in sorted(batches, key=len, reverse=True):
            if arch != "none":
                jobs.append(pool.submit(for_gpu, batch))
            if host_compiler.available()[0]:
                jobs.append(pool.submit(host_compiler.build, batch))
        for job in jobs:
            job.result()
    count = sum(map(len, batches))
    print(f"{count} kernels for {arch} and the emulated device in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
