"""What the recipes of one system share."""
