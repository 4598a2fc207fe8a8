"""One writer per directory; a lock that a dead process left does not count."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.runtime import lock
from akorn_jax.runtime.lock import DirectoryLock


def test_the_second_is_told_who_is_first(tmp_path):
    with DirectoryLock(epath.Path(tmp_path)):
        with pytest.raises(UserError, match=rf"by process {os.getpid()} on .* since 20"):
            DirectoryLock(epath.Path(tmp_path)).__enter__()
        assert (tmp_path / lock.FILE).exists(), "the first is unharmed"
    assert not (tmp_path / lock.FILE).exists()
    with DirectoryLock(epath.Path(tmp_path)):
        pass


def holder(**changes):
    return {"host": socket.gethostname(), "pid": 1, "started": "x", "since": "y", **changes}


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        "import sys, time; from etils import epath; from akorn_jax.runtime.lock import *\n"
        "DirectoryLock(epath.Path(sys.argv[1])).__enter__(); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"by process {process.pid}"):
        DirectoryLock(epath.Path(tmp_path)).__enter__()
    process.kill()
    process.wait()
    with DirectoryLock(epath.Path(tmp_path)):
        pass


def test_a_later_process_of_the_same_number_holds_nothing(tmp_path):
    (tmp_path / lock.FILE).write_text(json.dumps(holder(pid=os.getpid(), started="long ago")))
    with DirectoryLock(epath.Path(tmp_path)):
        pass


@pytest.mark.parametrize("content", [json.dumps(holder(host="elsewhere")), "", "{"])
def test_what_cannot_be_asked_is_gone_when_it_is_old(content, tmp_path):
    path = tmp_path / lock.FILE
    path.write_text(content)
    with pytest.raises(UserError, match="is being written by"):
        DirectoryLock(epath.Path(tmp_path)).__enter__()
    old = time.time() - lock.STALE_SECONDS - 1
    os.utime(path, (old, old))
    with DirectoryLock(epath.Path(tmp_path)):
        pass
