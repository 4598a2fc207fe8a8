"""A run as one page: `report.write` makes `DIR/report.html`, which needs nothing but a browser.

`run` reads what a run left behind, `scenes` chooses scenes and renders them, `panels` look inside
the model, `scores` makes the tables, `charts` the curves, `page` puts them together. Which panels a
model gets depends on the parts that its `ModelOutput` has, never on its name.
"""

from akorn_jax.report.page import write

__all__ = ["write"]
