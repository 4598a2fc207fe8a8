"""The arena: every system of the house on the same scenes, under the same budget."""
