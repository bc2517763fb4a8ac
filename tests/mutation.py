"""Plants faults in kernels/*.cu and *.cuh, one at a time, and counts how many the kernel tests notice.

    python -m tests.mutation                     # 60 faults drawn by seed 0; writes docs/mutation.json and .md
    python -m tests.mutation --count 5 --files neural.cu common.cuh --seed 3

Each fault is one small change of one line (the table FAULTS). The tests of the changed file run on a copy of the tree,
on the emulated device: first in float32, then in all four float types, then in float32 under AddressSanitizer and
UndefinedBehaviorSanitizer; the first failure, or a run that does not end, notices the fault. What does not compile, or
compiles to the same machine code, is no fault, and another is drawn. Results are kept as they come: the same command
goes on where it was stopped, and only changed lines run anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

FAULTS: list[tuple[str, str, str]] = [  # kind, pattern in a line of code, replacement
    ("a barrier removed", r"__sync(threads|warp)\([^;]*\);", ";"),
    ("a comparison off by one", r" < ", " <= "),
    ("a comparison off by one", r" <= ", " < "),
    ("a comparison off by one", r" > ", " >= "),
    ("a comparison off by one", r" >= ", " > "),
    ("a comparison turned round", r" == ", " != "),
    ("a comparison turned round", r" != ", " == "),
    ("and for or", r" && ", " || "),
    ("and for or", r" \|\| ", " && "),
    ("another operator", r" \+ ", " - "),
    ("another operator", r" - ", " + "),
    ("another operator", r" \* ", " + "),
    ("another operator", r" / ", " * "),
    ("another operator", r" % ", " / "),
    ("another operator", r" \+= ", " -= "),
    ("another operator", r" \*= ", " += "),
    ("a sign lost", r"([=,:?] |\(|return )-(?=[\w(])", r"\1"),
    ("a negation lost", r"!(?=[\w(])", ""),
    ("another constant", r"(?<![\w.\]])(?<!e-)(\d+)(?![\w.])(?!\))", r"(\1 + 1)"),
    ("another constant", r"(?<![\w.])(\d+\.\d+f?)(?![\w.])", r"(\1 + 1)"),
    ("a wrong stride", r"\b(\w*pitch|strides?|columns|gridDim\.[xy]|blockDim\.[xy])\b(?!\[)", r"(\1 + 1)"),
    ("a swapped argument", r"\b(?!if|for|while|f?max|f?min|hypot)(\w+)\((\w+), (\w+)\)", r"\1(\3, \2)"),
    ("branches swapped", r" \? ([^?:;]+) : ([^?:;]+)(?=;)", r" ? \2 : \1"),
    ("an else dropped", r"\belse\b", "if (false)"),
    ("a condition dropped", r"\bif \((?!.*constexpr)", "if (true || "),
    ("a statement dropped", r"^\s+[\w\[\].]+ [-+*/]?= [^;]+;$", ";"),
    ("the other extreme", r"\bmax(?=_nan|\()", "min"),
    ("the other extreme", r"\bmin(?=_nan|\()", "max"),
]
# Changed lines that look faulty and are not: a pattern in the line, and why the results stay the same.
HARMLESS = {
    r"constexpr int (AHEAD|UNROLL|RESIDENT) =": "how much is under way at once, not what is computed",
    r"i <= end; i \+= N": "a pack of no elements",
    r"\) partial\[row \* splits \+ split\] = state": "all threads of the block hold the same state",
    "__launch_bounds__": "how many registers a thread may have",
}

# Faults that went past the tests and change no result, as a look at them showed: file and new line, and why.
NO_EFFECT = {
    r"common.cuh: .*__umul64hi\(c0, a\)": "a product's factors have no order",
    r"common.cuh: if \(threadIdx\.x % WARP != 0\) warps\[": "all lanes of the warp hold the same state",
    r"elementwise.cu: if \(true \|\| Op::operands > 1\) fetch": "an operation of one operand ignores the second",
    r"indexing.cu: .*column <= width \? left": "at column == width nothing is left",
    r"norms.cu: if \(true \|\| k < count\) sum \+=": "a pack holds zeros behind its end",
    r"batch_norm.cu: if \(true \|\| k < n\) \{": "a pack holds zeros behind its end",
    r"tiles.cuh: .*item <= end; item \+= UNROLL": "an item at the end has no elements",
    r"neural.cu: .* - \(top - top\)": "that is minus zero, or NaN either way",
}


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int  # from 0
    kind: str
    old: str
    new: str
    again: int = 0  # how often the same fault stands above it

    @property
    def key(self) -> str:
        """Its name among the results: lines may move, what is done to them may not change."""
        return f"{self.file} {self.again}: {self.old.strip()} -> {self.new.strip()}"


def code_of(line: str) -> str:
    """A line without its comment; empty where there is no code that runs."""
    code = line.split("//")[0].rstrip()
    skipped = code.lstrip().startswith(("#", "template", "static_assert", "struct", "typedef", "using", "__global__"))
    return "" if skipped else code


def mutants(path: Path) -> Iterator[Mutant]:
    """Every fault that can be planted in a file."""
    seen: Counter[tuple[str, str]] = Counter()
    for number, line in enumerate(path.read_text().splitlines()):
        code = code_of(line)
        for kind, pattern, replacement in FAULTS:
            for match in re.finditer(pattern, code):
                new = code[: match.start()] + match.expand(replacement) + code[match.end() :]
                if new != code and not any(re.search(line, new) for line in HARMLESS):
                    yield Mutant(path.name, number, kind, code, new, seen[code.strip(), new.strip()])
                    seen[code.strip(), new.strip()] += 1


def drawn(files: list[Path], seed: int) -> Iterator[Mutant]:
    """Faults in random order, every kind as often as the others while it lasts."""
    source = random.Random(seed)
    kinds: dict[str, list[Mutant]] = {}
    for mutant in (mutant for path in files for mutant in mutants(path)):
        kinds.setdefault(mutant.kind, []).append(mutant)
    for group in kinds.values():
        source.shuffle(group)
    while kinds:
        kind = source.choice(sorted(kinds))
        yield kinds[kind].pop()
        if not kinds[kind]:
            del kinds[kind]


def users_of(file: str) -> set[str]:
    """A file of kernels/, and those that include it."""
    users, found = {file}, {file}
    while found:
        found = {
            path.name
            for path in (ROOT / "kernels").glob("*.cu*")
            if path.name not in users and any(f'#include "{user}"' in path.read_text() for user in users)
        }
        users |= found
    return users


class Stage(NamedTuple):
    """One way to run the tests of a file."""

    name: str
    floats: str
    sanitized: bool = False


STAGES = (
    Stage("float32", "float"),
    Stage("all types", "float,double,__half,__nv_bfloat16"),
    Stage("sanitizers", "float", sanitized=True),
)

Run = tuple[str, ...]  # pytest's arguments


def runs_of(file: str, stage: Stage) -> list[Run]:
    """The tests of a file: those that name it or one that includes it; under sanitizers, the samples of its kernels."""
    users = users_of(file)
    if stage.sanitized:
        return [("-k", f"test_every_kernel and ({' or '.join(sorted(users))})", "tests/kernels/test_devices_agree.py")]
    names = {f"test_{Path(user).stem}.py" for user in users}
    return [
        (str(path.relative_to(ROOT)),)
        for path in sorted((ROOT / "tests" / "kernels").glob("test_*.py"))
        if path.name in names
        or (path.name != "test_compile.py" and any(f'"{user}"' in path.read_text() for user in users))
    ]


class Workshop:
    """A copy of the tree in which faults are planted and tests run, with a cache of its own."""

    def __init__(self, folder: Path, stages: tuple[Stage, ...]):
        self.stages = stages
        self.tree, self.cache = folder / "tree", folder / "cache"
        for name in ("gpu_backprop", "kernels", "tests"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.tree)
        self.sound: dict[tuple[Run, Stage], tuple[float, set[str]]] = {}  # time and machine code without faults

    def run(self, run: Run, stage: Stage, limit: float) -> tuple[str, float, set[str]]:
        """What came of it ("" is good), its time, and the machine code that ran."""
        for library in (self.cache / "emulated").glob("[!r]*.so"):
            library.unlink()
        command = [sys.executable, *(("-m", "tests.emulator.sanitized") if stage.sanitized else ()), "-m", "pytest"]
        command += ["-x", "-m", "emulated", "-p", "no:cacheprovider", "--capture=sys", *run]
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "GPU_BACKPROP_TEST_FLOATS": stage.floats}
        environment["GPU_BACKPROP_CACHE_DIR"] = str(self.cache)
        start = time.monotonic()
        try:
            done = subprocess.run(
                command, cwd=self.tree, env=environment, capture_output=True, text=True, timeout=limit
            )
            output, good = done.stdout + done.stderr, done.returncode == 0
        except subprocess.TimeoutExpired:
            output, good = f"no end after {limit:.0f} s", False
        libraries = (self.cache / "emulated").glob("[!r]*.so")
        code = {hashlib.sha256(library.read_bytes()).hexdigest() for library in libraries}
        return "" if good else self.reason(output), time.monotonic() - start, code

    @staticmethod
    def reason(output: str) -> str:
        if "does not compile" in output:
            return "does not compile"
        found = re.search(
            r"^(?:FAILED|ERROR) (\S+)|ERROR: (AddressSanitizer: \S+)|(no end after .*)|(Segmentation fault)",
            output,
            re.MULTILINE,
        )
        return next(filter(None, found.groups())) if found else output.strip()[-200:]

    def baseline(self, run: Run, stage: Stage) -> tuple[float, set[str]]:
        if (run, stage) not in self.sound:
            problem, seconds, code = self.run(run, stage, 3600)
            if problem:
                raise SystemExit(f"{run[-1]} ({stage.name}) fails without any fault: {problem}")
            self.sound[run, stage] = seconds, code
        return self.sound[run, stage]

    def verdict(self, mutant: Mutant) -> tuple[str, str]:
        """("noticed", by what), ("survived", ""), or ("no fault", why)."""
        path = self.tree / "kernels" / mutant.file
        text, changed = path.read_text(), False
        lines = text.splitlines(keepends=True)
        lines[mutant.line] = mutant.new + "\n"
        for stage in self.stages:
            if stage.sanitized and not changed:  # built without optimisation, where all code differs
                break
            for run in sorted(runs_of(mutant.file, stage), key=lambda run: self.baseline(run, stage)[0]):
                seconds, sound_code = self.baseline(run, stage)
                path.write_text("".join(lines))
                try:
                    problem, _, code = self.run(run, stage, 60 + 4 * seconds)
                finally:
                    path.write_text(text)
                if problem == "does not compile":
                    return "no fault", problem
                if problem:
                    return "noticed", f"{problem} ({stage.name})"
                changed = changed or (code != sound_code and not stage.sanitized)
        return ("survived", "") if changed else ("no fault", "the same machine code")


def judged(result: dict[str, str]) -> dict[str, str]:
    """A result after somebody has looked at what survived."""
    why = next((why for line, why in NO_EFFECT.items() if re.search(line, f"{result['file']}: {result['new']}")), None)
    looked = result["verdict"] == "survived" and why is not None
    return {**result, "verdict": "no fault", "why": f"no effect: {why}"} if looked else result


def report(results: dict[str, dict[str, str]], command: str) -> str:
    """Results as a page of Markdown."""
    counts = Counter(result["verdict"] for result in results.values())
    faults = counts["noticed"] + counts["survived"]
    kinds = Counter(r["kind"] for r in results.values() if r["verdict"] != "no fault")
    noticed = Counter(r["kind"] for r in results.values() if r["verdict"] == "noticed")
    lines = [
        "# Faults planted in the kernels",
        "",
        f"Of {faults} faults the kernel tests notice {counts['noticed']} "
        f"({100 * counts['noticed'] / max(faults, 1):.0f} %). Made by `{command}`.",
        "",
        "| kind | planted | noticed |",
        "| --- | --- | --- |",
        *(f"| {kind} | {kinds[kind]} | {noticed[kind]} |" for kind in sorted(kinds)),
        "",
    ]
    spared = [r for r in results.values() if r["why"].startswith("no effect")]
    if spared:
        lines += ["Not counted, for they change no result (looked at one by one after a run):", ""]
        lines += ["| file | line | in its place | why |", "| --- | --- | --- | --- |"]
        lines += [_row("| {file} | `{old}` | `{new}` | {why} |", r) for r in spared]
        lines += [""]
    survivors = [r for r in results.values() if r["verdict"] == "survived"]
    if survivors:
        lines += ["Not noticed:", "", "| file | line | in its place |", "| --- | --- | --- |"]
        lines += [_row("| {file} | `{old}` | `{new}` |", r) for r in survivors]
    return "\n".join(lines) + "\n"


def _row(form: str, result: dict[str, str]) -> str:
    """A row of a table of Markdown, the bars in the code escaped."""
    return form.format(**{key: value.replace("|", "\\|") for key, value in result.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="faults to plant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="*", help="names in kernels/; all of them if not given")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "mutation.json")
    parser.add_argument("--stages", type=int, default=len(STAGES), help="1: float32 alone, a first look")
    options = parser.parse_args()

    files = sorted(p for p in (ROOT / "kernels").glob("*.cu*") if not options.files or p.name in options.files)
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    results: dict[str, dict[str, str]] = {}
    command = "python -m tests.mutation " + " ".join(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder), STAGES[: options.stages])
        for mutant in drawn(files, options.seed):
            if sum(result["verdict"] != "no fault" for result in results.values()) == options.count:
                break
            if mutant.key not in known:
                verdict, why = shop.verdict(mutant)
                known[mutant.key] = {
                    "file": mutant.file, "kind": mutant.kind, "old": mutant.old.strip(), "new": mutant.new.strip(),
                    "verdict": verdict, "why": why,
                }  # fmt: skip
                options.results.write_text(json.dumps(known, indent=1) + "\n")
            results[mutant.key] = result = judged(known[mutant.key])
            print("{verdict:9} {file}: {old}  ->  {new}  {why}".format(**result), flush=True)
            options.results.with_suffix(".md").write_text(report(results, command.strip()))
    print(report(results, command.strip()))


if __name__ == "__main__":
    main()
