"""What the training loop alone uses."""
