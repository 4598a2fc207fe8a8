"""One objective, one file, one exported `Task`."""
