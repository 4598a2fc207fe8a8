"""From a `ModelOutput` to label maps, scores and pictures."""
