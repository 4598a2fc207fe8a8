"""Devices, processes, files and logs: nothing of the science is here."""
