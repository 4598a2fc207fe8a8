"""One model, one file, one exported `Model`."""
