from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError, SessionError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.measure.latency import LatencyComparison, summarize
from onnxcompress.pass_base import TensorType
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.runtime import check, context
from onnxcompress.runtime.calibration import CalibrationTable
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import node, parse

TEXT = "g (float[N, 3] x) => (float[N, 3] y) { h = Mul(x, x)  y = Neg(h) }"
VALUES = np.random.default_rng(0).standard_normal((20, 3), np.float32)


def _data(model: Model, values: np.ndarray = VALUES) -> Dataset:
    return dataset_of({"x": values}, Session(io.to_bytes(model)).inputs)


class Counter:
    """Counts the calls of a function of `context`, which still does its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str):
        self.calls = 0
        self._function = getattr(context, name)
        monkeypatch.setattr(context, name, self)

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        return self._function(*args, **kwargs)


def test_the_sample_is_the_first_of_the_data_or_made_up() -> None:
    model = parse(TEXT)
    (batch,) = RuntimeContext(_data(model)).sample(model).batches(1)
    np.testing.assert_array_equal(batch.feeds["x"], VALUES[:1])
    (made_up,) = RuntimeContext().sample(model).batches(1)
    assert made_up.feeds["x"].shape == (1, 3)
    (again,) = RuntimeContext().sample(model).batches(1)
    np.testing.assert_array_equal(made_up.feeds["x"], again.feeds["x"])


def test_a_fixed_batch_is_filled_with_different_samples() -> None:
    model = parse("g (float[4, 3] x) => (float[4, 3] y) { y = Neg(x) }")
    (batch,) = RuntimeContext(_data(model)).sample(model).batches(1)
    np.testing.assert_array_equal(batch.feeds["x"], VALUES[:4])
    (made_up,) = RuntimeContext().sample(model).batches(1)
    assert len(np.unique(made_up.feeds["x"])) == 12
    (padded,) = RuntimeContext(_data(model, VALUES[:2])).sample(model).batches(1)
    np.testing.assert_array_equal(padded.feeds["x"], VALUES[[0, 1, 1, 1]])


def test_types_of_every_tensor() -> None:
    model = parse(
        """g (float[N, 3] x) => (float[N, 3] y) <int64 zero = {0}> {
        s = Shape(x)  h = Cast <to = 10> (x)  q = SequenceConstruct(x)  y = SequenceAt(q, zero)
    }"""
    )
    float32, half = np.dtype(np.float32), np.dtype(np.float16)
    assert RuntimeContext(_data(model)).types(model) == {
        "x": TensorType(float32, (1, 3)),
        "s": TensorType(np.dtype(np.int64), (2,)),
        "h": TensorType(half, (1, 3)),
        "y": TensorType(float32, (1, 3)),
    }


def test_strings_are_tensors() -> None:
    model = parse(
        "g (string[2] x) => (string[2] y) <string[2] h> { h = Identity(x) y = Identity(h) }"
    )
    assert RuntimeContext().types(model)["h"] == TensorType(np.dtype(object), (2,))


def test_services_are_computed_once_for_each_content(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, gathered = Counter(monkeypatch, "watch"), Counter(monkeypatch, "gather")
    model = parse(TEXT)
    services = RuntimeContext(_data(model))
    for one in (model, clone(model), parse(TEXT)):
        services.types(one)
        services.ranges(one, ["h", "x"], Observer.MIN_MAX)
        services.ranges(one, ["x"], Observer.PERCENTILE)
    assert (watched.calls, gathered.calls) == (1, 1)
    services.ranges(model, ["x", "y"], Observer.MIN_MAX)  # only y is missing
    assert (watched.calls, gathered.calls) == (1, 2)
    changed = clone(model)
    Editor(changed).set_attribute(node(changed, "Neg_y"), "k", 1)
    with pytest.raises(SessionError):  # an attribute that Neg does not have: not the cached answer
        services.types(changed)


def test_ranges_by_observer_and_of_inputs() -> None:
    model = parse(TEXT)
    services = RuntimeContext(_data(model))
    found = services.ranges(model, ["h", "x"], Observer.MIN_MAX)
    assert list(found) == ["h", "x"]
    assert found["x"] == Range(VALUES.min(), VALUES.max())
    assert found["h"] == Range((VALUES * VALUES).min(), (VALUES * VALUES).max())
    narrower = services.ranges(model, ["x"], Observer.MSE)["x"]
    assert found["x"].low <= narrower.low < narrower.high <= found["x"].high


def test_without_data_there_are_no_ranges() -> None:
    with pytest.raises(DataError) as caught:
        RuntimeContext().ranges(parse(TEXT), ["h"], Observer.MIN_MAX)
    assert str(caught.value) == (
        "activations need calibration data; pass --data, or use a pass that needs none, "
        "such as quantize-dynamic"
    )


def test_progress_is_told() -> None:
    model = parse(TEXT)
    steps: list[tuple[int, int]] = []
    services = RuntimeContext(
        _data(model), progress=lambda done, total: steps.append((done, total))
    )
    services.ranges(model, ["h"], Observer.MIN_MAX)
    assert steps[-1] == (20, 20)


def test_models_too_large_to_run_have_no_types(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    assert set(RuntimeContext().types(model)) == {"x", "y"}
    monkeypatch.setattr(check, "MAX_RUN_BYTES", 7)
    assert RuntimeContext().types(model) == {}
    data = _data(model, np.float32([[1, 2], [3, 4]]).reshape(-1))
    ranges = RuntimeContext(data).ranges(model, ["y"], Observer.MIN_MAX)
    assert ranges["y"] == Range(2, 6)


def test_made_up_inputs_that_do_not_run() -> None:
    model = parse("""g (int64[2] x) => (float[2, 1] y)
        <float[3, 1] w = {1, 2, 3}, int64 far = {1000}> { i = Add(x, far)  y = Gather(w, i) }""")
    assert RuntimeContext().types(model) == {}
    data = dataset_of({"x": np.array([-1000, -999])}, Session(io.to_bytes(model)).inputs)
    assert RuntimeContext(data).types(model)["y"] == TensorType(np.dtype(np.float32), (2, 1))


def test_histograms_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = Counter(monkeypatch, "gather")
    model, path = parse(TEXT), tmp_path / "table.npz"
    first = RuntimeContext(_data(model), calibration=path).ranges(model, ["h"], Observer.MIN_MAX)
    assert list(CalibrationTable.load(path).histograms) == ["h"]
    again = RuntimeContext(_data(model), calibration=path)
    assert again.ranges(model, ["h"], Observer.MIN_MAX) == first
    assert gathered.calls == 1
    again.ranges(model, ["x"], Observer.MIN_MAX)
    assert gathered.calls == 2
    assert list(CalibrationTable.load(path).histograms) == ["h", "x"]


def test_a_file_of_another_model_or_of_other_data_is_not_used(tmp_path: Path) -> None:
    model, path = parse(TEXT), tmp_path / "table.npz"
    RuntimeContext(_data(model), calibration=path).ranges(model, ["h"], Observer.MIN_MAX)
    other = RuntimeContext(_data(model, 2 * VALUES), calibration=path)
    assert other.ranges(model, ["h"], Observer.MIN_MAX)["h"].high == (4 * VALUES * VALUES).max()
    triple = parse(TEXT.replace("Mul(x, x)", "Sum(x, x, x)"))
    found = RuntimeContext(_data(model), calibration=path).ranges(triple, ["h"], Observer.MIN_MAX)
    np.testing.assert_allclose(found["h"].high, 3 * VALUES.max(), rtol=1e-6)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    model, path = parse(TEXT), tmp_path / "table.npz"
    path.write_text("damaged")
    with pytest.raises(DataError, match=r"table.npz: not a calibration table"):
        RuntimeContext(_data(model), calibration=path).ranges(model, ["h"], Observer.MIN_MAX)


def test_time_ratios_are_of_the_first_model_over_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed stands for the time, so that no test hangs on a clock."""
    short = parse("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    long = parse("g (float[2] x) => (float[2] y) { a = Neg(x)  y = Neg(a) }")
    seen = []

    def timed(
        sessions: list[Session], feeds: dict[str, np.ndarray], **_: object
    ) -> LatencyComparison:
        signs = [next(iter(each.run(feeds).values())) / feeds["x"] for each in sessions]
        seen.append(signs)
        return summarize(np.array([[4.0, 8.0], [4.0, 8.0]]), [1, 1], 0)

    monkeypatch.setattr(context, "compare_latency", timed)
    assert RuntimeContext().time_ratio(long, short) == 2
    assert [sign.tolist() for sign in seen[0]] == [[-1, -1], [1, 1]]  # the other one first


def test_a_deep_graph_takes_few_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is as long as the graph, so one for every thousand tensors would be quadratic."""
    count = 5000
    names = ["x", *(f"t{at}" for at in range(count - 1)), "y"]
    body = "  ".join(f"{after} = Neg({before})" for before, after in pairwise(names))
    model = parse(f"g (float[N, 2] x) => (float[N, 2] y) {{ {body} }}")
    made = []
    real = context.watch
    monkeypatch.setattr(context, "watch", lambda *given: made.append(len(given[1])) or real(*given))
    types = RuntimeContext().types(model)
    assert {name: types[name].shape for name in names} == dict.fromkeys(names, (1, 2))
    assert made == [1000, 4000]
    monkeypatch.setattr(context, "_WATCHED_BYTES", 16_000)  # 2000 tensors of 8 bytes
    made.clear()
    RuntimeContext().types(model)
    assert made == [1000, 2000, 2000]
