"""Official names of ItrSA: those of AKOrN's repository."""

from akorn_jax.convert.akorn import itrsa_entries as entries

__all__ = ["entries"]
