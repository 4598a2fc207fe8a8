"""What people watch is written, and watching changes nothing."""

import json
import threading

import jax
import numpy as np
import pytest
from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax import train as training
from akorn_jax.errors import UserError
from akorn_jax.training.nonfinite import NonFiniteGuard


def events(workdir):
    return EventAccumulator(str(workdir)).Reload()


@pytest.fixture
def compiled():
    """The times that XLA compiled something, or fetched it from the cache of compiled programs."""
    seen = []

    def listener(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listener)


@pytest.fixture
def small(tiny):
    """The tiny config with a validation part, logged every two steps."""
    tiny.data.validation = (16, 32)
    tiny.log_every = 2
    return tiny


@pytest.fixture
def quick(quick, small):
    """The same of a model of a few numbers."""
    quick.eval_scenes = 2
    return quick


def test_a_run_that_is_watched(quick, tmp_path):
    config = quick
    config.histogram_every = 6
    config.profile_at = 2
    config.eval_every = 6
    config.skip_nonfinite = 3
    assert training.train(config, epath.Path(tmp_path)) is training.Outcome.DONE
    found = events(tmp_path)
    names = set(found.Tags()["scalars"])
    assert names >= {
        *(f"train/{name}" for name in ("loss", "grad_norm", "param_norm", "learning_rate")),
        *(f"train/{name}" for name in ("images_per_sec", "step_seconds", "data_wait_share")),
        *("train/nonfinite_steps", "eval/loss", "eval/fg_ari", "eval/mbo"),
        *(f"eval/{name}" for name in ("slots_used", "background_by_one", "position_ari")),
    }
    assert [event.step for event in found.Scalars("eval/fg_ari")] == [6, 12]
    assert all(0 <= event.value <= 1 for event in found.Scalars("eval/mbo"))
    assert [event.step for event in found.Images("eval/segmentation")] == [6, 12]
    histograms = found.Tags()["histograms"]
    assert len(histograms) == len(set(histograms)) == 5
    assert all(name.startswith("params/") for name in histograms)
    texts = {name.partition("/text_summary")[0] for name in found.Tags()["tensors"]}
    assert {"config", "parameters"} <= texts
    assert list((tmp_path / "plugins" / "profile").rglob("*.xplane.pb"))


def test_nothing_is_compiled_after_the_first_steps(quick, tmp_path, monkeypatch, compiled):
    counts = {}

    class Counting(training.TrainMetrics):
        def __call__(self, done, *rest):
            super().__call__(done, *rest)
            counts[done] = len(compiled)

    monkeypatch.setattr(training, "TrainMetrics", Counting)
    for quick.data.loading in ("resident", "stream"):
        training.train(quick, epath.Path(tmp_path / quick.data.loading))
        assert counts[2] > 0
        assert counts[12] == counts[2], quick.data.loading
        counts.clear()


def test_evaluations_on_the_way_compile_once(small, tmp_path, monkeypatch, compiled):
    counts = []

    class Counting(training.PeriodicEval):
        def _evaluate(self, *arguments):
            super()._evaluate(*arguments)
            counts.append(len(compiled))

    monkeypatch.setattr(training, "PeriodicEval", Counting)
    small.eval_every = 4
    small.eval_scenes = 8
    training.train(small, epath.Path(tmp_path))
    assert counts == [counts[0]] * 3
    assert counts[0] > 0


def test_a_plateau_lowers_the_rate_and_resumes_exactly(quick, tmp_path):
    config = quick
    config.optimizer.schedule = "plateau"
    config.optimizer.plateau_patience = 0
    config.optimizer.plateau_factor = 0.5
    config.optimizer.warmup_steps = 0
    config.optimizer.learning_rate = 1e-12  # nothing improves
    config.eval_every = 2
    rates = {}
    for name, stops in (("whole", [12]), ("parts", [7, 12])):
        for config.num_steps in stops:
            training.train(config, epath.Path(tmp_path / name))
        found = events(tmp_path / name).Scalars("train/learning_rate")
        rates[name] = {event.step: event.value for event in found}
    # Values are reported after steps 2, 4, ...; the first is the best, each other one halves.
    expected = {4: 1e-12, 6: 5e-13, 8: 2.5e-13, 10: 1.25e-13, 12: 6.25e-14}
    assert rates["whole"] == pytest.approx({2: 1e-12, **expected}, rel=1e-6, abs=0)
    assert rates["parts"] == pytest.approx({2: 1e-12, **expected}, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("step", "remedy"),
    [(0, r"change config\.model, config\.task"), (1, r"lower config\.optimizer\.learning_rate")],
)
def test_no_rate_is_to_blame_for_the_first_step(step, remedy, tmp_path):
    guard = NonFiniteGuard(0, epath.Path(tmp_path) / "x.json", np.arange(4), lambda: "none saved")
    with pytest.raises(UserError, match=remedy):
        guard(step, float("nan"), float("nan"), np.array([1]))


def test_skipped_steps_are_noted_and_counted_over_restarts(tmp_path):
    records = np.arange(100, 200)
    file = epath.Path(tmp_path) / "nonfinite.json"
    first = NonFiniteGuard(2, file, records, lambda: "nothing is saved")
    first(3, float("nan"), 1.0, np.array([5, 6]))
    again = NonFiniteGuard(2, file, records, lambda: "nothing is saved", count=first.count)
    again(7, 1.0, float("inf"), np.array([1, 2]))
    with pytest.raises(UserError, match=r"^step 8: loss nan, .* nothing is saved\. Tolerate"):
        again(8, float("nan"), 1.0, np.array([3, 4]))
    assert again.count == 3
    steps = json.loads(file.read_text())
    assert [(s, steps[s]["scenes"], steps[s]["records"]) for s in steps] == [
        ("3", [5, 6], [105, 106]),
        ("7", [1, 2], [101, 102]),
        ("8", [3, 4], [103, 104]),
    ]
    assert steps["7"]["grad_norm"] == "inf"


def test_the_count_is_saved(quick, tmp_path, monkeypatch):
    """A run that goes on remembers how many steps were skipped."""
    counts = []

    class Remembered(NonFiniteGuard):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            counts.append(self.count)
            self.count += 2

    monkeypatch.setattr(training, "NonFiniteGuard", Remembered)
    quick.optimizer.schedule = "constant"
    for quick.num_steps in (4, 8):
        training.train(quick, epath.Path(tmp_path))
    assert counts == [0, 2]


def test_a_last_state_that_is_not_saved_is_an_error(quick, tmp_path, monkeypatch):
    def full(self, step, arrays):
        return step < 12

    monkeypatch.setattr(training.Checkpoints, "_room_for", full)
    with pytest.raises(
        UserError, match=r"step 12, the last, could not .*checkpoints/8\. Make room"
    ):
        training.train(quick, epath.Path(tmp_path))


def test_a_last_state_whose_saving_does_not_return_is_an_error(quick, tmp_path, monkeypatch):
    answer = threading.Event()
    save = training.Checkpoints.save

    def stuck(self, step, *args):
        self.wait()
        if step == 12:
            self.patience = 0.1
            self._seal = lambda step: answer.wait(60)
        save(self, step, *args)

    monkeypatch.setattr(training.Checkpoints, "save", stuck)
    with pytest.raises(UserError, match=r"step 12, .*checkpoints/8\. See whether it answers and"):
        training.train(quick, epath.Path(tmp_path))
    answer.set()


def test_more_steps_a_call_than_fit_where_the_run_goes_on(quick, tmp_path):
    quick.max_hours = 1e-9
    training.train(quick, epath.Path(tmp_path))  # one step
    quick.steps_per_call = 2
    with pytest.raises(UserError, match="steps_per_call=2 does not divide step 1"):
        training.train(quick, epath.Path(tmp_path))
