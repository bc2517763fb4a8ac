"""Writes docs/kernels.md: every kernel, what it costs for sm_90, and the tests that run it. Run: python docs/kernels.py

Runs the kernel tests on the emulated device to see which kernel each of them launches (some minutes), and asks the
compiler for registers, shared memory and spills. Needs what `pip install -e ".[test]"` installs, and no GPU.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from gpu_backprop.backends import kernels, table
from gpu_backprop.backends.kernels import Kernel
from gpu_backprop.backends.launching.chain import Chain
from gpu_backprop.backends.resources import Resources, resources

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "kernels.md"
ARCHITECTURE = "sm_90"

# The fewest bytes that a kernel moves: for each element of its largest operand, s being the size of the dtype.
BYTES = {
    "reduce_rows": "s",
    "reduce_columns": "s",
    "activation_bias_backward": "3s",
    "softmax_rows": "2s",
    "softmax_backward_rows": "3s",
    "cross_entropy_rows": "s",
    "cross_entropy_backward_rows": "2s",
    "words": "8",
    "integers": "8",
    "uniform": "s",
    "normal": "s",
    "dropout": "2s",
    "layer_norm_rows": "2s",
    "layer_norm_backward_rows": "3s",
    "norm_sums": "2s",
    "batch_norm_statistics": "s",
    "batch_norm_apply": "2s",
    "batch_norm_backward": "3s",
    "loss_flat": "2s, 3s without a reduction",
    "loss_backward_flat": "3s",
    "take_rows": "2s",
    "add_rows": "s, and the rows of g that are named",
    "one_hot_flat": "s",
    "accuracy_rows": "s",
    "sgd": "3s, with momentum 5s",  # beside a master copy state is 4 bytes wide, and the copy moves 8 more
    "adam": "7s, AMSGrad 9s",
    "rmsprop": "5s, centred 7s, with momentum 2s more",
    "adagrad": "5s",
    "chain_*": "s for each array and the result",
}


def arguments(expression: str) -> tuple[str, list[str]]:
    """The name of a template and its arguments: "f<A<x>, b>" gives "f", ["A<x>", "b"]."""
    name, _, rest = expression.partition("<")
    parts, depth, part = [], 0, ""
    for c in rest[:-1]:
        depth += (c == "<") - (c == ">")
        if c == "," and not depth:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return name, [*parts, part.strip()]


def row_of(kernel: Kernel) -> tuple[str, str]:
    """The file and the row of the page that an instantiation belongs to: its name without dtype and index type."""
    name, parts = arguments(kernel.expression)
    if name.startswith("chain_"):
        return "chain.cuh", "chain_*"
    name = re.sub(r"^map_\w+$", "map_*", name)
    kept = [re.sub(r"^NextAfter<.*>$", "NextAfter", p) for p in parts if p not in (*table.FLOATS, *table.INDICES)]
    kept = ["Cast" if p.startswith("Cast<") else p for p in kept]
    return kernel.file, f"{name}<{', '.join(kept)}>" if kept else name


def all_kernels() -> list[Kernel]:
    """Every kernel with 32-bit indices, and a chain in all patterns."""
    chain = Chain(2, (("add", 0, 1), ("relu", 2)))
    found = list(table.instantiations(indices=("int",)))
    return found + [chain.kernel(p, dtype, "int", ("x", "x")) for p in table.PATTERNS for dtype in table.FLOATS]


def dtype_of(kernel: Kernel) -> str | None:
    """The kernel's float type; None where it makes integers."""
    return next((p for p in arguments(kernel.expression)[1] if p in table.FLOATS), None)


def bytes_of(file: str, row: str) -> str:
    if row.startswith("map_*"):
        functor = row[len("map_*<") : -1]
        found = next((r for r in table.ELEMENTWISE.values() if r.functor.split("<")[0] == functor), None)
        arrays = found.arrays if found else 1
        if found and found.condition:
            return f"{arrays}s + 1"
        return (
            f"{arrays}s + 1"
            if found and found.truth
            else "s + its target's size"
            if functor == "Cast"
            else f"{arrays + 1}s"
        )
    return BYTES[row.partition("<")[0]]


def launches_by_test() -> dict[tuple[str, str], set[str]]:
    """Row of the page -> the tests that launch it, by running them."""
    import pytest

    from gpu_backprop.backends.emulated import EmulatedLauncher

    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    current = ""

    class Watch:
        def pytest_runtest_setup(self, item: pytest.Item) -> None:
            nonlocal current
            current = f"{Path(str(item.path)).stem}.{item.originalname}"  # type: ignore[attr-defined]

        def pytest_runtest_teardown(self, item: pytest.Item) -> None:
            nonlocal current
            current = ""

    launch = EmulatedLauncher.launch

    def watched(self: EmulatedLauncher, kernel: Kernel, *args: object, **kwargs: object) -> None:
        if current and "<" in kernel.expression:
            seen[row_of(kernel)].add(current)
        launch(self, kernel, *args, **kwargs)  # type: ignore[arg-type]

    EmulatedLauncher.launch = watched  # type: ignore[method-assign,assignment]
    if pytest.main(["-q", "-m", "emulated", str(ROOT / "tests" / "kernels")], plugins=[Watch()]):
        raise SystemExit("the kernel tests fail; mend them first")
    return seen


def registers(kernels_of_row: list[Kernel], found: dict[Kernel, Resources]) -> str:
    """The most of each dtype."""
    dtypes = dict.fromkeys(map(dtype_of, kernels_of_row))
    return " / ".join(str(max(found[k].registers for k in kernels_of_row if dtype_of(k) == d)) for d in dtypes)


def page() -> str:
    wanted = all_kernels()
    found = resources(wanted, ARCHITECTURE)
    tests = launches_by_test()
    rows: dict[str, dict[str, list[Kernel]]] = defaultdict(lambda: defaultdict(list))
    for kernel in wanted:
        file, row = row_of(kernel)
        rows[file][row].append(kernel)
    lines = [
        "# The kernels",
        "",
        "Written by `python docs/kernels.py`; not to be edited by hand.",
        "",
        f"{len(list(table.instantiations())):,} instantiations of {sum(map(len, rows.values()))} kernels, in float32, "
        "float64, float16 and bfloat16, with 32-bit and 64-bit indices. Registers a thread (float32 / float64 / "
        "float16 / bfloat16, the most of all patterns), shared memory a block and spills are the compiler's for "
        f"{ARCHITECTURE} ({kernels._nvrtc_version()}). Bytes are the fewest that a kernel moves for each element of "
        "its largest operand; s is the size of the dtype. Formulas and shapes stand at the head of each file.",
    ]
    for file in sorted(rows):
        lines += ["", f"## [{file}](../kernels/{file})", ""]
        lines += [
            "| kernel | bytes | registers | shared | spills | tests that run it |",
            "| --- | --- | --- | ---: | ---: | --- |",
        ]
        for row, members in rows[file].items():
            shared = max(found[k].shared for k in members)
            spills = max(found[k].spills for k in members)
            names = ", ".join(sorted(tests[file if not row.startswith("chain") else "chain.cuh", row]))
            lines.append(
                f"| `{row}` | {bytes_of(file, row)} | {registers(members, found)} | {shared} | {spills} | {names} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
