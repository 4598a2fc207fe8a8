"""A scorer for anyone's masks, by everyone's rules: `python -m akorn_jax.score --help`."""
