"""The script that plants faults knows every kernel file and its tests, and changes one line of code at a time."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from .mutation import FAULTS, NO_EFFECT, ROOT, STAGES, drawn, judged, mutants, runs_of

FILES = sorted((ROOT / "kernels").glob("*.cu*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_kernel_file_has_tests_and_faults(path):
    assert runs_of(path.name, STAGES[0])
    lines = path.read_text().splitlines()
    found = list(mutants(path))
    assert found
    assert len({mutant.key for mutant in found}) == len(found)
    for mutant in found:
        assert lines[mutant.line].startswith(mutant.old)
        assert mutant.new != mutant.old
        assert not mutant.old.lstrip().startswith(("//", "#"))


def test_every_kind_of_fault_is_drawn_and_a_seed_repeats_the_draw():
    kinds = {kind for kind, _, _ in FAULTS}
    assert {mutant.kind for mutant in islice(drawn(FILES, 0), 200)} == kinds
    assert list(islice(drawn(FILES, 1), 20)) == list(islice(drawn(FILES, 1), 20)) != list(islice(drawn(FILES, 2), 20))


def test_every_fault_without_effect_can_still_be_drawn():
    lines = [f"{mutant.file}: {mutant.new.strip()}" for path in FILES for mutant in mutants(path)]
    for pattern in NO_EFFECT:
        assert any(re.search(pattern, line) for line in lines), pattern


def test_only_a_survivor_is_judged():
    result = {"file": "indexing.cu", "new": "column <= width ? left<N>(column, width) : 0;", "why": "", "verdict": ""}
    assert judged({**result, "verdict": "survived"})["verdict"] == "no fault"
    assert judged({**result, "verdict": "noticed"})["verdict"] == "noticed"
    assert judged({**result, "verdict": "survived", "new": "something else"})["verdict"] == "survived"
