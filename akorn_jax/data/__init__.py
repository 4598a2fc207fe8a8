"""What lies between the disk and the step."""
