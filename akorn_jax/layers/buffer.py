"""State that belongs to a model but is not trained."""

from flax import nnx


class Buffer(nnx.Variable):
    """A constant of the model, e.g. a fixed coupling strength: saved, averaged, not trained."""
