"""What docs/ shows is made from runs, and can be made again."""

import nbformat
import pytest
from PIL import Image

from docs import make_figures

TOUR = make_figures.HERE / "tour.ipynb"


def test_the_tour_runs(oscillators_run):
    notebook = make_figures.tour(TOUR, oscillators_run)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 4
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    texts = [output.text for output in outputs if output.output_type == "stream"]
    assert texts[0].startswith("akorn after 12 steps; 16 scenes of tetrominoes/procedural")
    settings = [cell.source for cell in notebook.cells if cell.metadata.get("tags")]
    assert settings == ['workdir = "runs/demo"']


def test_the_tour_in_the_repository_was_run():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code[1:])
    assert TOUR.stat().st_size < 200_000


@pytest.mark.parametrize("name", ["segmentation.png", "oscillators.gif"])
def test_pictures_are_drawn_from_a_run(name, oscillators_run, tmp_path):
    make_figures.figures(oscillators_run, tmp_path)
    with Image.open(tmp_path / name) as drawn, Image.open(TOUR.parent / "figures" / name) as kept:
        assert drawn.size == kept.size
