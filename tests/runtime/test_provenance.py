import json

import jax
import pytest

from akorn_jax.errors import UserError
from akorn_jax.runtime import provenance


def test_every_start_is_kept(tmp_path):
    assert provenance.read(tmp_path) == []
    provenance.record(tmp_path, ["--config=configs/demo.py"])
    provenance.record(tmp_path, ["--workdir=a b"])
    first, second = provenance.read(tmp_path)
    assert first["command"] == "python launch.py --config=configs/demo.py"
    assert second["command"] == "python launch.py '--workdir=a b'"
    assert first["versions"]["jax"] == jax.__version__
    assert first["devices"] == "8 x cpu"
    lines = (tmp_path / provenance.FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [first, second]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    provenance.record(tmp_path, [])
    assert provenance.read(tmp_path) == []


def test_a_directory_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        provenance.record(tmp_path / "missing", [])
