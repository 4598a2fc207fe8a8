"""A run as one page: `report.write` makes `DIR/report.html`, which needs nothing but a browser.

One module a part: `run` reads what a run left behind, `contents` asks what the model's output has,
`scenes` chooses scenes and draws them, `oscillators` and `slots` look inside the model, `scores`
makes the tables, `charts` the curves, `page` puts them together. What a model is shown with depends
on the parts that its `ModelOutput` has, never on its name.
"""

from akorn_jax.report.page import write

__all__ = ["write"]
