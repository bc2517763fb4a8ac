"""What one small operation costs beside NumPy, as a table for README.md.

    pip install -e ".[bench]" && python benchmarks/overhead.py [--out benchmarks/results]

Runs benchmarks/test_overhead.py several times over and writes overhead_cpu.json and overhead_cpu.md: microseconds a
call, and what they are above NumPy's for the same ten float32 numbers. Each is the fastest round of hundreds of calls
(what a processor shared with others adds is never negative), as timeit's documentation advises. Peers (torch, jax,
autograd, mygrad) that are not installed are left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from test_overhead import LIBRARIES, OPERATIONS


def fastest(paths: list[Path]) -> dict[str, float]:
    """Test -> microseconds, of files that pytest-benchmark wrote."""
    rows = [row for path in paths for row in json.loads(path.read_text())["benchmarks"]]
    names = dict.fromkeys(row["name"] for row in rows)
    return {name: min(row["stats"]["min"] for row in rows if row["name"] == name) * 1e6 for name in names}


def table(found: dict[str, float]) -> str:
    heads = [f"{operation}{how}" for operation in OPERATIONS for how in ("", ", recorded")]
    lines = [f"| us above NumPy | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for library in LIBRARIES[1:]:
        cells = []
        for operation in OPERATIONS:
            base = found[f"test_unrecorded[numpy-{operation}]"]
            for test in ("test_unrecorded", "test_recorded"):
                own = found.get(f"{test}[{library}-{operation}]")
                cells.append("" if own is None else f"{own - base:.2f}")
        if any(cells):
            lines.append(f"| {library} | {' | '.join(cells)} |")
    itself = ", ".join(f"{operation} {found[f'test_unrecorded[numpy-{operation}]']:.2f}" for operation in OPERATIONS)
    return "\n".join(lines) + f"\n\nTen float32 numbers; NumPy itself: {itself} us."


def versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__}
    for name in LIBRARIES[2:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"date": datetime.date.today().isoformat()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    out, paths = args.out, []
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "-k", "recorded", "--benchmark-max-time=0.2"]
    options += ["--benchmark-min-time=0.001"]  # hundreds of calls a round, so that reading the clock does not count
    with tempfile.TemporaryDirectory() as folder:
        for run in range(args.runs):
            path = Path(folder, f"{run}.json")
            command = [sys.executable, "-m", "pytest", str(Path(__file__).with_name("test_overhead.py")), *options]
            status = subprocess.run([*command, f"--benchmark-json={path}"], check=False).returncode
            if status or not path.exists():
                return status or 1
            paths.append(path)
        found = fastest(paths)
    out.mkdir(parents=True, exist_ok=True)
    made_with = versions()
    text = f"{table(found)}\n\n{', '.join(f'{name} {value}' for name, value in made_with.items())}\n"
    (out / "overhead_cpu.md").write_text(text)
    (out / "overhead_cpu.json").write_text(json.dumps({"machine": made_with, "microseconds": found}, indent=2) + "\n")
    print(f"\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
