"""The report of one run of gpu.sh: what each step gave, on which machine, as <gpu>.json and <gpu>.md.

    python benchmarks/report.py WORK --device cuda --out benchmarks/results

WORK holds steps.tsv (name, exit status or "skipped", seconds, reason), NAME.log of each step, NAME.xml of those that
run pytest, and what the benchmarks wrote: NAME_<device>.json, whose "goals" are listed, .md (without it the log is the
table) and .svg. Steps of a report in --out that were not run now are kept, each with its date. <gpu>-readme.md is what
README.md shows: goals, training steps, pictures. Exits with 1 if a step failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PACKAGES = (
    "numpy",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "cuda-core",
    "nvidia-cuda-nvrtc",
    "nvmath-python",
    "torch",
    "triton",
    "jax",
    "optax",
    "pytest",
)
TAIL = 4000  # characters of a failed step's log
REHEARSAL = "Rehearsal without a GPU: times mean nothing."
RESULTS = "benchmarks/results/"
IN_README = ("mlp_step", "mlp_large", "widths")  # steps whose tables and pictures README.md shows


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
    steps, about = [], machine(device)
    for line in (work / "steps.tsv").read_text().splitlines():
        name, status, seconds, reason = line.split("\t")
        step: dict[str, Any] = {"name": name, "seconds": int(seconds), "outcome": "ok" if status == "0" else "failed"}
        step |= {key: about.get(key, "") for key in ("date", "commit")}
        if status == "skipped":
            step |= {"outcome": "skipped", "reason": reason}
        elif status != "0":
            step |= {"exit status": int(status), "log": shortened(work / f"{name}.log")[-TAIL:]}
        results = work / f"{name}.xml"
        if results.exists():
            step["tests"] = tests(results)
        benchmark = work / f"{name}_{device}.json"
        if benchmark.exists():
            step["results"] = json.loads(benchmark.read_text())
            table = benchmark.with_suffix(".md")
            step["table"] = table.read_text() if table.exists() else f"```\n{shortened(work / f'{name}.log')}```"
            if benchmark.with_suffix(".svg").exists():
                step["picture"] = f"{name}.svg"
        steps.append(step)
    return {"rehearsal": device != "cuda", "machine": about, "steps": steps}


def shortened(log: Path) -> str:
    """Without the places of one machine: where its files were written to, and where the checkout was."""
    text = log.read_text(errors="replace")
    for place in (log.parent, Path(__file__).resolve().parent.parent):
        text = text.replace(f"{place}/", "").replace(str(place), ".")
    return "".join(line for line in text.splitlines(True) if not line.startswith("written to "))


def merged(report: dict[str, Any], before: Path) -> dict[str, Any]:
    """With the steps of an earlier report that were not run again, in its order."""
    if not before.exists():
        return report
    steps = {step["name"]: step for step in [*json.loads(before.read_text())["steps"], *report["steps"]]}
    return report | {"steps": list(steps.values())}


def goals(report: dict[str, Any]) -> list[str]:
    """The table of what was to be reached."""
    found = [goal for step in report["steps"] for goal in step.get("results", {}).get("goals", ())]
    lines = ["| goal | measured | |", "| --- | ---: | --- |"] if found else []
    for goal in found:
        measured = "" if goal["measured"] is None else f"{goal['measured']:.2f}"
        verdict = {None: "not measured", True: "reached", False: "not reached"}[goal["reached"]]
        lines.append(f"| {goal['goal']} | {measured} | {'rehearsal' if report['rehearsal'] else verdict} |")
    return lines


def about(report: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in report["machine"].items() if k != "gpu")


def shown(step: dict[str, Any], prefix: str, folder: str = "") -> list[str]:
    """A step's table, and its picture in that folder."""
    lines = ["", step["table"].strip()]
    if "picture" in step:
        lines += ["", f"![{step['name']}]({folder}{prefix}-{step['picture']})"]
    return lines


def markdown(report: dict[str, Any], prefix: str) -> str:
    lines = [f"# {report['machine']['gpu']}", ""]
    if report["rehearsal"]:
        lines += [REHEARSAL, ""]
    lines += [about(report), "", *goals(report), ""]
    lines += ["| step | outcome | s | date | commit | |", "| --- | --- | ---: | --- | --- | --- |"]
    for step in report["steps"]:
        note = step.get("reason", "")
        if "tests" in step:
            counts = step["tests"]
            note = f"{counts['passed']} passed, {len(counts['failed'])} failed, {counts['skipped']} skipped"
        about_step = step["name"], step["outcome"], str(step["seconds"]), step["date"], step["commit"], note
        lines.append(f"| {' | '.join(about_step)} |")
    for step in report["steps"]:
        if "table" in step:
            lines += ["", f"## {step['name']}", *shown(step, prefix)]
        if step["outcome"] == "failed":
            named = [f"- {test}" for test in step.get("tests", {}).get("failed", [])[:20]]
            lines += ["", f"## {step['name']} failed ({step['exit status']})", "", *named]
            lines += ["", "```", step["log"][-1500:].strip(), "```"]
    return "\n".join(lines) + "\n"


def for_readme(report: dict[str, Any], prefix: str) -> str:
    """Paths are those of README.md, into which benchmarks/readme.py copies it."""
    lines = [f"### {report['machine']['gpu']}", "", *([REHEARSAL, ""] if report["rehearsal"] else []), *goals(report)]
    for step in report["steps"]:
        if step["name"] in IN_README and "table" in step:
            lines += shown(step, prefix, RESULTS)
    lines += ["", f"{about(report)}; all of the run: [{prefix}.md]({RESULTS}{prefix}.md)"]
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
    run, report = report, merged(report, args.out / f"{name}.json")
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (args.out / f"{name}.md").write_text(markdown(report, name))
    (args.out / f"{name}-readme.md").write_text(for_readme(report, name))
    for step in run["steps"]:
        if "picture" in step:
            picture = args.work / f"{step['name']}_{args.device}.svg"
            shutil.copyfile(picture, args.out / f"{name}-{step['picture']}")
    failed = [step["name"] for step in run["steps"] if step["outcome"] == "failed"]
    print(f"\nwritten: {args.out / name}.json and .md; failed steps: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
