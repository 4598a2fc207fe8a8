"""What the user can put right."""

import contextlib
from collections.abc import Iterator

from absl import logging


class UserError(ValueError):
    """Wrong input: one line that names the thing, its value and the remedy.

    `launch.py` prints the line without a traceback and exits with code 2.
    """


@contextlib.contextmanager
def compiling(what: str, remedy: str) -> Iterator[None]:
    """Turns what the tracing of a program refuses into one line; the log has where it came from.

    Args:
        what: of the program, the subject of the line.
        remedy: its end.

    Raises:
        UserError: the line, or one that says what is wrong by itself.
    """
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, ZeroDivisionError, IndexError) as error:
        logging.debug("%s failed.", what, exc_info=True)
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"{what} cannot be compiled: {reason}; {remedy}.") from error
