"""The report of one run of gpu.sh: what each step gave, on which machine, as <gpu>.json and <gpu>.md.

    python benchmarks/report.py WORK --device cuda --out benchmarks/results

WORK holds steps.tsv (name, exit status or "skipped", seconds, reason), NAME.log of each step, NAME.xml of those that
run pytest, and what the benchmarks wrote. Exits with 1 if a step failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "cuda-core", "nvidia-cuda-nvrtc", "torch", "jax", "pytest")
TAIL = 4000  # characters of a failed step's log


def machine(device: str) -> dict[str, Any]:
    """GPU, driver, versions, date."""
    found: dict[str, Any] = {"device": device, "gpu": "emulated" if device == "emulated" else "none found"}
    if device == "cuda":
        try:
            query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
            answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
            found |= zip(("gpu", "driver", "memory", "power limit"), answer.splitlines()[0].split(", "))
        except (OSError, subprocess.SubprocessError, IndexError) as error:
            found["nvidia-smi"] = str(error)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    git = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found["commit"] = "unknown"
    return found | {"python": platform.python_version(), "date": datetime.date.today().isoformat()}


def tests(path: Path) -> dict[str, Any]:
    """Counts of a junit file, and the tests that failed."""
    cases = list(ET.parse(path).getroot().iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": [f"{c.get('classname')}.{c.get('name')}" for c in failed],
        "skipped": len(skipped),
    }


def gather(work: Path, device: str) -> dict[str, Any]:
    """Everything, as it goes into the JSON file."""
    steps = []
    for line in (work / "steps.tsv").read_text().splitlines():
        name, status, seconds, reason = line.split("\t")
        step: dict[str, Any] = {"name": name, "seconds": int(seconds), "outcome": "ok" if status == "0" else "failed"}
        if status == "skipped":
            step |= {"outcome": "skipped", "reason": reason}
        elif status != "0":
            step |= {"exit status": int(status), "log": (work / f"{name}.log").read_text(errors="replace")[-TAIL:]}
        results = work / f"{name}.xml"
        if results.exists():
            step["tests"] = tests(results)
        benchmark = work / f"{name}_{device}.json"
        if benchmark.exists():
            step["results"] = json.loads(benchmark.read_text())
            step["table"] = benchmark.with_suffix(".md").read_text()
        steps.append(step)
    return {"rehearsal": device != "cuda", "machine": machine(device), "steps": steps}


def markdown(report: dict[str, Any]) -> str:
    about = report["machine"]
    lines = [f"# {about['gpu']}", ""]
    if report["rehearsal"]:
        lines += ["Rehearsal without a GPU: times mean nothing.", ""]
    lines += [", ".join(f"{k} {v}" for k, v in about.items() if k != "gpu"), ""]
    lines += ["| step | outcome | s | |", "| --- | --- | ---: | --- |"]
    for step in report["steps"]:
        note = step.get("reason", "")
        if "tests" in step:
            counts = step["tests"]
            note = f"{counts['passed']} passed, {len(counts['failed'])} failed, {counts['skipped']} skipped"
        lines.append(f"| {step['name']} | {step['outcome']} | {step['seconds']} | {note} |")
    for step in report["steps"]:
        if "table" in step:
            lines += ["", f"## {step['name']}", "", step["table"].strip()]
        if step["outcome"] == "failed":
            named = [f"- {test}" for test in step.get("tests", {}).get("failed", [])[:20]]
            lines += ["", f"## {step['name']} failed ({step['exit status']})", "", *named]
            lines += ["", "```", step["log"][-1500:].strip(), "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "emulated"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    report = gather(args.work, args.device)
    name = re.sub(r"[^a-z0-9]+", "-", report["machine"]["gpu"].lower()).strip("-")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (args.out / f"{name}.md").write_text(markdown(report))
    failed = [step["name"] for step in report["steps"] if step["outcome"] == "failed"]
    print(f"\nwritten: {args.out / name}.json and .md; failed steps: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
