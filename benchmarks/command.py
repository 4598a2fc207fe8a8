"""How a benchmark ends that was started from the command line."""

import sys
from collections.abc import Callable
from typing import NoReturn

from akorn_jax.errors import UserError
from datasets.errors import DatasetError


def run(main: Callable[[], int | None]) -> NoReturn:
    """Exits with the code of `main`; wrong input is one line without a traceback, and code 2."""
    try:
        code = main()
    except (UserError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)
