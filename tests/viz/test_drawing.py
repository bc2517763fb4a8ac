"""gb.viz.draw: well-formed SVG that holds the right boxes, arrows and numbers, and a layout without overlaps."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.viz.layout import Box, place

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: gb.viz.Drawing) -> list[str]:
    return [t.text or "" for t in ET.fromstring(drawing.svg).iter(f"{SVG}text")]


def boxes(drawing: gb.viz.Drawing) -> list[tuple[float, float, float, float]]:
    group = ET.fromstring(drawing.svg).find(f"{SVG}g")
    assert group is not None
    return [tuple(float(r.get(k, "0")) for k in ("x", "y", "width", "height")) for r in group.findall(f"{SVG}rect")]  # type: ignore[misc]


def arrows(drawing: gb.viz.Drawing) -> int:
    return sum(p.get("marker-end") is not None for p in ET.fromstring(drawing.svg).iter(f"{SVG}path"))


def overlapping(found: list[tuple[float, float, float, float]]) -> int:
    return sum(
        x < u + w and u < x + a and y < v + h and v < y + b
        for i, (x, y, a, b) in enumerate(found)
        for u, v, w, h in found[:i]
    )


def residual_network(blocks: int) -> tuple[gb.nn.Module, gb.Tensor]:
    class Block(gb.nn.Module):
        def __init__(self) -> None:
            self.up, self.down = gb.nn.Linear(8, 16), gb.nn.Linear(16, 8)

        def forward(self, x: gb.Tensor) -> gb.Tensor:
            return x + self.down(gb.tanh(self.up(x)))

    gb.manual_seed(0)
    net = gb.nn.Sequential(*[Block() for _ in range(blocks)])
    return net, (net(gb.random.normal((4, 8))) ** 2).mean()


def test_a_small_network() -> None:
    x = gb.tensor([[1.0, 2.0]])
    w = gb.tensor([[0.5, -1.0]], requires_grad=True)
    loss = ((x * w).sum() - 1.0) ** 2
    drawing = gb.viz.draw(loss, names={"x": x, "w <1>": w})
    shown = texts(drawing)
    for word in ("x", "w <1>", "multiply", "sum", "subtract 1", "square", "black: value"):
        assert word in shown
    assert any(line.strip() == "0.500 -1.000" for line in shown)
    assert any(line.strip() == "-5.000 -10.000" for line in shown)  # the gradient of w: 2 (-1.5 - 1) x
    assert len(boxes(drawing)) == 6
    assert arrows(drawing) == 5
    assert overlapping(boxes(drawing)) == 0
    assert drawing._repr_svg_() == str(drawing) == drawing.svg


def test_save(tmp_path: Path) -> None:
    loss = gb.tensor(2.0, requires_grad=True) * 3
    gb.viz.draw(loss).save(tmp_path / "tape.svg")
    ET.parse(tmp_path / "tape.svg")
    with pytest.raises(gb.DataError, match=r"viz\.draw: cannot write .*choose another path"):
        gb.viz.draw(loss).save(tmp_path / "none" / "tape.svg")
    with pytest.raises(gb.DataError, match=r"tape\.png' is to hold SVG; end its name in \.svg"):
        gb.viz.draw(loss).save(tmp_path / "tape.png")
    assert not (tmp_path / "tape.png").exists()
    with pytest.raises(gb.DataError, match="most_boxes=1 is too few"):
        gb.viz.draw(loss, most_boxes=1)


def test_large_tapes_are_folded_by_module() -> None:
    net, loss = residual_network(12)
    drawing = gb.viz.draw(loss)
    shown = texts(drawing)
    for i in range(12):
        assert f"Sequential.{i}" in shown
    assert "4 operations" in shown
    assert "up.weight 16 x 8" in shown
    assert len(boxes(drawing)) == 12 + 3  # the blocks, the input, square and mean
    assert overlapping(boxes(drawing)) == 0
    named = texts(gb.viz.draw(loss, names=net))
    assert "up.weight 16 x 8" in named
    unfolded = gb.viz.draw(loss, most_boxes=1000)
    assert len(boxes(unfolded)) == 12 * (4 + 4) + 3
    assert overlapping(boxes(unfolded)) == 0
    assert arrows(unfolded) == 12 * 9 + 2


def test_the_gradient_of_a_folded_module_is_shown() -> None:
    net, loss = residual_network(12)
    shown = texts(gb.viz.draw(loss))
    loss.backward()
    g = net.state_dict()  # touched so that the model outlives the drawing
    assert g
    norm = float(np.sqrt(np.mean(np.square(next(iter(net.parameters())).grad.numpy().astype(float)))))
    assert f"rms {norm:.4g}" in shown


def test_long_runs_without_modules_are_folded() -> None:
    y = gb.tensor(0.5, requires_grad=True)
    for _ in range(300):
        y = gb.sin(y)
    drawing = gb.viz.draw(y)
    assert len(boxes(drawing)) <= 26
    assert "278 operations" in texts(drawing) or any("operations" in t for t in texts(drawing))
    assert sum(t.startswith("sin") for t in texts(drawing)) >= 20


def test_the_picture_of_the_readme_is_up_to_date(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = ROOT / "docs" / "network.py"
    committed = (ROOT / "docs" / "network.svg").read_text()
    copy = tmp_path / "network.py"
    copy.write_text(script.read_text())
    runpy.run_path(str(copy), run_name="__main__")
    assert (tmp_path / "network.svg").read_text() == committed, "run python docs/network.py"
    assert "weight 1" in capsys.readouterr().out
    root = ET.fromstring(committed)
    assert float(root.get("width", "0")) < 1400


# the layout alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_layouts_of_random_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 30
    placed = [Box(float(rng.uniform(20, 80)), float(rng.uniform(20, 60))) for _ in range(n)]
    pairs = sorted({(int(a), int(b)) for a, b in rng.integers(0, n, (50, 2)) if a < b})
    width, height, routes = place(placed, [(placed[a], placed[b]) for a, b in pairs])
    corners = [(b.x, b.y - b.height / 2, b.width, b.height) for b in placed]
    assert overlapping(corners) == 0
    assert all(x >= -1e-9 and x + w <= width + 1e-9 and y >= -1e-9 and y + h <= height + 1e-9 for x, y, w, h in corners)
    for (a, b), route in zip(pairs, routes):
        assert placed[a].x + placed[a].width < placed[b].x  # arrows point to the right
        assert route[0] is placed[a]
        assert route[-1] is placed[b]
        assert [r.rank for r in route] == list(range(placed[a].rank, placed[b].rank + 1))
        for bend in route[1:-1]:  # and go round the boxes
            assert not any(other.rank == bend.rank and abs(other.y - bend.y) < other.height / 2 for other in placed)
