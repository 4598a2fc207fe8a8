import ast
import re
from pathlib import Path

import pytest

from configs import published
from configs.data import PROTOCOLS

CONFIGS = Path(published.__file__).parent
RECIPES = sorted(p for p in CONFIGS.glob("*_*.py") if p.stem != "__init__")


def numbers():
    """All (mean, std) in %, as text."""
    return {
        f"{mean} ± {std}"
        for _, _, _, methods in published._TABLES
        for row in methods.values()
        for mean, std in row
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_quote_the_same_numbers(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    quoted = set(re.findall(r"\d+\.\d ± \d+\.\d", docstring))
    assert quoted <= numbers()


def test_entries_name_their_dataset_and_lie_between_0_and_1():
    for key in PROTOCOLS:
        for entry in published.published(key):
            assert entry["dataset"] in {protocol["name"] for protocol in PROTOCOLS.values()}
            scores = [v for k, v in entry.items() if k not in ("method", "source", "dataset")]
            assert scores
            for mean, std in scores:
                assert 0 < mean <= 1
                assert std is None or 0 <= std < 0.5


def test_clevrtex_has_its_other_datasets():
    datasets = {entry["dataset"] for entry in published.published("clevrtex_full:clevrtex")}
    assert datasets == {"clevrtex/full", "clevrtex/outd", "clevrtex/camo"}
    assert published.published("objects_room:train") == ()
