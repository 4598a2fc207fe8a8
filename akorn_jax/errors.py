"""What the user can put right."""


class UserError(ValueError):
    """Wrong input: one line that names the thing, its value and the remedy.

    `launch.py` prints the line without a traceback and exits with code 2.
    """
