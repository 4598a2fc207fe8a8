"""Log lines appear once, with or without a bar."""

import io
import logging

import pytest
import rich.console
from absl import logging as absl_logging

from akorn_jax.errors import UserError
from akorn_jax.runtime import progress


@pytest.fixture
def screen(monkeypatch):
    """Standard error as text; a terminal if its attribute says so."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", rich.console.Console(file=text, width=100))
    yield text
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_every_line_once_in_one_format(tmp_path, screen, capfd):
    logging.getLogger().addHandler(logging.StreamHandler())  # as some library's first message does
    for _ in range(2):  # calling it twice does not print twice
        progress.setup_logging(tmp_path)
    absl_logging.info("by absl %d", 1)
    logging.getLogger("akorn_jax.training.checkpoint").warning("by [logging] %d", 2)
    logging.getLogger("jax._src.dispatch").info("inner life")
    for text in (screen.getvalue(), (tmp_path / "log.txt").read_text()):
        lines = text.splitlines()
        assert [line[20:] for line in lines] == ["I by absl 1", "W by [logging] 2"]
    assert capfd.readouterr().err == ""


def test_the_log_grows(tmp_path, screen):
    for line in ("first run", "second run"):
        progress.setup_logging(tmp_path)
        absl_logging.info(line)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


def test_directories_without_a_log(tmp_path, screen):
    progress.setup_logging("gs://bucket/run")
    absl_logging.info("on the screen")
    assert "on the screen" in screen.getvalue()
    with pytest.raises(UserError, match=r"nowhere/log\.txt: cannot be written \(No such file"):
        progress.setup_logging(tmp_path / "nowhere")


def test_orbax_is_quiet(tmp_path, screen):
    progress.setup_logging(tmp_path)
    for level, shown in ((logging.INFO, False), (logging.WARNING, True), (logging.ERROR, False)):
        message = f"orbax says {level}"
        record = logging.LogRecord("absl", level, "/x/orbax/save.py", 1, message, (), None)
        logging.getLogger().handle(record)
        assert (message in screen.getvalue()) is shown


def test_lines_where_there_is_no_terminal(tmp_path, screen, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_A_RATE", 0.0)
    progress.setup_logging(tmp_path)
    with progress.bar(100, 50) as bar:
        bar.update(51)
        bar.update(60, loss=0.5)
    (line,) = screen.getvalue().splitlines()
    assert "step 60 of 100, " in line
    assert "steps/s, loss 0.5000, " in line
    assert line.endswith("left")


def test_lines_name_what_they_count_and_wait_for_a_rate(tmp_path, screen, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    seconds = iter((0.0, 40.0, 40.1, 42.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    progress.setup_logging(tmp_path)
    with progress.bar(100, unit="scene") as bar:
        for done in (1, 2, 41):  # a second one is ready at once
            bar.update(done)
    (line,) = screen.getvalue().splitlines()
    assert "scene 41 of 100, 20.0 scenes/s, 0:03 left" in line


def test_a_bar_on_a_terminal(tmp_path, screen, monkeypatch):
    terminal = rich.console.Console(file=screen, width=100, force_terminal=True)
    monkeypatch.setattr(progress, "console", terminal)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_A_RATE", 0.0)
    progress.setup_logging(tmp_path)
    with progress.bar(100, 50) as bar:
        bar.update(51)
        absl_logging.info("a line")
        bar.update(80, loss=0.25)
    shown = screen.getvalue()
    assert "80/100" in shown
    assert "loss 0.2500" in shown
    assert shown.count("a line") == 1
    assert "step 80 of 100" not in shown


def test_durations():
    assert [progress.duration(s) for s in (5, 65.4, 3723)] == ["0:05", "1:05", "1:02:03"]
