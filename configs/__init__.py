"""What to run: one published recipe a file, each with a `get_config(variant)`."""
