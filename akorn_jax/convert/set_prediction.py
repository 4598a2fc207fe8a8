"""Official names of Slot Attention for set prediction: see `convert/slot_attention.py`."""

from akorn_jax.convert.slot_attention import dialect, entries

__all__ = ["dialect", "entries"]
