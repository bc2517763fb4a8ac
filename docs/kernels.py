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
from gpu_backprop.backends.resources import resources

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "kernels.md"
ARCHITECTURE = "sm_90"

# The fewest bytes that a kernel moves: for each element of its largest operand, s being the size of the dtype.
BYTES = {
    "transpose_tiles": "2s",
    "reduce_rows": "s",
    "reduce_columns": "s",
    "activation_bias_backward": "3s",
    "softmax_rows": "2s",
    "softmax_backward_rows": "3s",
    "cross_entropy_rows": "s",
    "cross_entropy_backward_rows": "2s",
    "start_draws": "8",
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
    "check_indices": "8",
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
    if not rest:
        return name, []
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


def all_kernels() -> dict[Kernel, list[str]]:
    """Every kernel with 32-bit indices, and a chain in all patterns, with the operations that each serves."""
    found: dict[Kernel, list[str]] = defaultdict(list)
    for operation, kernel in table.operations(indices=("int",)):
        found[kernel].append(operation)
    chain = Chain(2, (("add", 0, 1), ("relu", 2)))
    for pattern in table.PATTERNS:
        for dtype in table.FLOATS:
            found[chain.kernel(pattern, dtype, "int", ("x", "x"))].append("chain")
    return found


def dtype_of(kernel: Kernel) -> str | None:
    """The kernel's float type; None where it makes integers."""
    return next((p for p in arguments(kernel.expression)[1] if p in table.FLOATS), None)


def bytes_of(row: str) -> str:
    name, parts = arguments(row)
    if name != "map_*":
        return BYTES[name]
    if parts == ["Cast"]:
        return "s + the size of the other dtype"
    found = next((r for r in table.ELEMENTWISE.values() if r.functor.partition("<")[0] == parts[0]), None)
    if found is None:  # Copy
        return "2s"
    one_byte = found.truth or found.condition
    return f"{found.arrays}s + 1" if one_byte else f"{found.arrays + 1}s"


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
        if current and ("<" in kernel.expression or not Path(kernel.file).is_absolute()):
            seen[row_of(kernel)].add(current)
        launch(self, kernel, *args, **kwargs)  # type: ignore[arg-type]

    EmulatedLauncher.launch = watched  # type: ignore[method-assign,assignment]
    if pytest.main(["-q", "-m", "emulated", str(ROOT / "tests" / "kernels")], plugins=[Watch()]):
        raise SystemExit("the kernel tests fail; mend them first")
    return seen


def in_files(tests: set[str]) -> str:
    """ "test_a.one", "test_a.two" as "test_a: one, two"."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in sorted(tests):
        file, _, function = test.partition(".")
        files[file].append(function.removeprefix("test_"))
    return "; ".join(f"{file}: {', '.join(names)}" for file, names in files.items())


def page() -> str:
    wanted = all_kernels()
    found = resources(wanted, ARCHITECTURE)
    tests = launches_by_test()
    rows: dict[str, dict[str, list[Kernel]]] = defaultdict(lambda: defaultdict(list))
    for kernel in wanted:
        file, row = row_of(kernel)
        rows[file][row].append(kernel)
    total, named = len(list(table.instantiations())), sum(map(len, rows.values()))
    lines = [
        "# The kernels",
        "",
        "Written by `python docs/kernels.py`; not to be edited by hand.",
        "",
        f"{total:,} instantiations of {named} kernels, most in float32, float64, float16 and bfloat16, with 32-bit and",
        "64-bit indices. Registers a thread (the most of all patterns, in the order of the dtypes), shared memory a",
        f"block and spills are the compiler's for {ARCHITECTURE} ({kernels._nvrtc_version()}).",
        "Bytes are the fewest that a kernel moves for each element of its largest operand, s the size of the dtype.",
        "Formulas and shapes stand at the head of each file.",
    ]
    for file in sorted(rows):
        lines += ["", f"## [{file}](../kernels/{file})", ""]
        lines += [
            "| kernel | operation | dtypes | bytes | registers | shared | spills | tests that run it |",
            "| --- | --- | --- | --- | --- | ---: | ---: | --- |",
        ]
        for row, members in rows[file].items():
            operations = ", ".join(dict.fromkeys(name for k in members for name in wanted[k]))
            floats: dict[str | None, list[Kernel]] = defaultdict(list)
            for kernel in members:
                floats[dtype_of(kernel)].append(kernel)
            dtypes = "four floats" if set(floats) >= set(table.FLOATS) else ", ".join(d or "integers" for d in floats)
            registers = " / ".join(str(max(found[k].registers for k in group)) for group in floats.values())
            shared, spills = (max(getattr(found[k], what) for k in members) for what in ("shared", "spills"))
            cells = (
                f"`{row}`",
                operations,
                dtypes,
                bytes_of(row),
                registers,
                shared,
                spills,
                in_files(tests[file, row]),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
