"""Worker processes: order, errors, bounded reading ahead, no JAX."""

import math
import os
import subprocess
import sys

import pytest

from akorn_jax.evaluation.workers import LOOKAHEAD, Workers


def test_results_keep_their_order():
    with Workers(2) as workers:
        assert list(workers.imap(math.sqrt, ((i * i,) for i in range(50)))) == list(range(50))
        assert list(workers.imap(pow, [(2, 3), (3, 2)])) == [8, 9]  # and they can be used again


def test_work_is_done_elsewhere_on_one_thread():
    with Workers(1) as workers:
        (pid,) = workers.imap(os.getpid, [()])
        assert pid != os.getpid()
        assert list(workers.imap(os.getenv, [("OPENBLAS_NUM_THREADS",)])) == ["1"]
    with Workers(0) as workers:
        assert list(workers.imap(os.getpid, [()])) == [os.getpid()]


def test_items_are_read_a_bounded_number_ahead():
    drawn = []

    def items():
        for i in range(1000):
            drawn.append(i)
            yield (i,)

    with Workers(1) as workers:
        assert next(workers.imap(math.sqrt, items())) == 0
    assert len(drawn) == LOOKAHEAD


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_come_back(num_workers):
    with Workers(num_workers) as workers, pytest.raises(ValueError, match="math domain error"):
        list(workers.imap(math.sqrt, [(1,), (-1,)]))


def test_a_dead_worker_is_named():
    with Workers(1) as workers, pytest.raises(RuntimeError, match="ended with code 3"):
        list(workers.imap(os._exit, [(3,)]))


def test_negative_number_is_refused():
    with pytest.raises(ValueError, match="num_workers=-1"):
        Workers(-1)


def test_the_clustering_modules_do_not_import_jax():
    code = (
        "import sys, akorn_jax.evaluation.clustering, akorn_jax.evaluation.baselines;"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
