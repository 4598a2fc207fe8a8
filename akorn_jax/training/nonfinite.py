"""Steps whose loss or gradient is not finite: counted, noted with their scenes, and too many."""

import json
from collections.abc import Callable

import numpy as np
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.runtime import processes, storage


class NonFiniteGuard:
    """Called with each such step.

    Args:
        tolerated: steps that change nothing and are passed over; one more ends the run.
        file: gets what is known of them, as JSON.
        records: `[N]`, the training scenes' places in the prepared split.
        describe_latest: says which checkpoint a run can resume from.
        count: of the run so far, as the checkpoint has it.
    """

    def __init__(
        self,
        tolerated: int,
        file: epath.Path,
        records: np.ndarray,
        describe_latest: Callable[[], str],
        count: int = 0,
    ) -> None:
        self.count = count
        self._tolerated = tolerated
        self._file = file
        self._records = records
        self._last_good = describe_latest

    def __call__(self, step: int, loss: float, grad_norm: float, rows: np.ndarray) -> None:
        """Notes a step.

        Args:
            step: updates made before it.
            loss, grad_norm: what it had.
            rows: the scenes of its batch, `[B]`.

        Raises:
            UserError: there were more than are tolerated.
        """
        self.count += 1
        if processes.is_primary():
            self._note(step, loss, grad_norm, rows)
        if self.count > self._tolerated:
            remedy = "lower config.optimizer.learning_rate"
            if step == 0:  # no update was made that could have gone too far
                remedy = "change config.model, config.task or config.data"
            raise UserError(
                f"step {step}: loss {loss}, gradient norm {grad_norm}; its scenes are in "
                f"{self._file}; {self._last_good()}. Tolerate some such steps with "
                f"config.skip_nonfinite, or {remedy} in another workdir: this one belongs to its "
                "run."
            )

    def _note(self, step: int, loss: float, grad_norm: float, rows: np.ndarray) -> None:
        steps = json.loads(self._file.read_text()) if self._file.exists() else {}
        steps[str(step)] = {
            "loss": str(loss),
            "grad_norm": str(grad_norm),
            "scenes": rows.tolist(),
            "records": self._records[rows].tolist(),
        }
        storage.write(self._file, (json.dumps(steps) + "\n").encode())
