"""What one small operation costs beside NumPy, as a table for README.md.

    pip install -e ".[bench]" && python benchmarks/overhead.py [--out benchmarks/results]

Runs benchmarks/test_overhead.py and writes overhead_cpu.json and overhead_cpu.md: medians in microseconds, and what
they are above NumPy's for the same ten float32 numbers. Peers (torch, jax, autograd, mygrad) that are not installed are
left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_overhead import LIBRARIES, OPERATIONS


def medians(path: Path) -> dict[str, float]:
    """Test -> microseconds, of a file that pytest-benchmark wrote."""
    return {row["name"]: row["stats"]["median"] * 1e6 for row in json.loads(path.read_text())["benchmarks"]}


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
    numpys = ", ".join(f"{operation} {found[f'test_unrecorded[numpy-{operation}]']:.2f}" for operation in OPERATIONS)
    return "\n".join(lines) + f"\n\nTen float32 numbers; NumPy itself: {numpys} us."


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
    out = parser.parse_args().out
    tests = Path(__file__).with_name("test_overhead.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raw.json")
        status = pytest.main(
            [str(tests), "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-k", "recorded", f"--benchmark-json={path}"]
        )
        if status or not path.exists():
            return int(status) or 1
        found = medians(path)
    out.mkdir(parents=True, exist_ok=True)
    made_with = versions()
    text = f"{table(found)}\n\n{', '.join(f'{name} {value}' for name, value in made_with.items())}\n"
    (out / "overhead_cpu.md").write_text(text)
    (out / "overhead_cpu.json").write_text(json.dumps({"machine": made_with, "microseconds": found}, indent=2) + "\n")
    print(f"\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
