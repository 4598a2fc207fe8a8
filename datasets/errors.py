"""What the user of a dataset can put right."""


class DatasetError(ValueError):
    """Wrong data or arguments: one line that names the thing, its value and the remedy.

    `launch.py` prints the line without a traceback and exits with code 2.
    """


class DamagedFileError(DatasetError):
    """A file that is not as it was published; another copy may be."""
