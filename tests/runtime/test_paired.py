from collections.abc import Iterator

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.runtime import paired
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.paired import part_of
from onnxcompress.runtime.session import Session
from tests.helpers import node, outputs, parse

TEXT = """g (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}>
  { [one] a = Add(x, w)  [square] b = Mul(a, a)  [two] c = Mul(b, v)  [sum] y = Sub(c, a) }"""
VALUES = np.random.default_rng(0).standard_normal((20, 2), np.float32)


def _edited(model: Model, name: str, index: int, values: np.ndarray) -> None:
    Editor(model).set_values(node(model, name), index, values)


def _context(model: Model) -> RuntimeContext:
    return RuntimeContext(dataset_of({"x": VALUES}, Session(io.to_bytes(model)).inputs))


Pairs = Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


def _joined(pairs: Pairs) -> list[dict[str, np.ndarray]]:
    sides = zip(*pairs, strict=True)
    return [{name: np.concatenate([b[name] for b in side]) for name in side[0]} for side in sides]


@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_later_runs_see_what_changed_and_start_from_what_did_not(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "KEPT_BYTES", limit)
    monkeypatch.setattr(paired, "BATCH_BYTES", 4 * 4 * 2 * 6)  # six samples at a time
    parts: list[list[str]] = []

    def record(model: Model, *args: object) -> Model:
        part = part_of(model, *args)  # type: ignore[arg-type]
        parts.append([each.name for each in part.graph.nodes])
        return part

    monkeypatch.setattr(paired, "part_of", record)
    original = parse(TEXT)
    model = clone(original)
    runs = _context(model).paired_activations(model, original)
    _edited(model, "one", 1, np.float32([5, 6]))
    first = list(runs.batches(["b", "x"], ["a"], node(model, "square")))
    assert [len(batch["b"]) for batch, _ in first] == [6, 6, 6, 2]
    ours, theirs = _joined(iter(first))
    np.testing.assert_allclose(ours["b"], (VALUES + np.float32([5, 6])) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(ours["x"], VALUES)
    np.testing.assert_allclose(theirs["a"], VALUES + np.float32([1, 2]), rtol=1e-6)
    _edited(model, "two", 1, np.float32([7, 8]))
    ours, theirs = _joined(runs.batches(["y"], ["c", "a"], node(model, "sum")))
    a = VALUES + np.float32([5, 6])
    np.testing.assert_allclose(ours["y"], a**2 * [7, 8] - a, rtol=1e-5)
    np.testing.assert_allclose(theirs["c"], (VALUES + np.float32([1, 2])) ** 2 * [3, 4], rtol=1e-6)
    np.testing.assert_allclose(theirs["a"], VALUES + np.float32([1, 2]), rtol=1e-6)
    again = ["square", "two", "sum"] if limit else ["one", "square", "two", "sum"]
    assert parts[0] == ["one", "square"]
    assert parts[2] == again


def test_a_part_holds_what_it_needs_and_takes_what_is_given() -> None:
    model = parse(TEXT)
    before = io.to_bytes(model)
    part = part_of(model, ["c"])
    assert [each.name for each in part.graph.nodes] == ["one", "square", "two"]
    expected = (VALUES + np.float32([1, 2])) ** 2 * [3, 4]
    np.testing.assert_allclose(outputs(part, {"x": VALUES})["c"], expected, rtol=1e-6)
    short = part_of(model, ["c"], [{"b": VALUES, "a": VALUES}])
    assert [each.name for each in short.graph.inputs] == ["b"]
    np.testing.assert_allclose(outputs(short, {"b": VALUES})["c"], VALUES * [3, 4], rtol=1e-6)
    assert io.to_bytes(model) == before


def test_a_part_may_be_given_the_sizes_of_a_map() -> None:
    """onnxruntime takes a vector whose length is not told for one without any element."""
    model = parse("""g (float[N, 1, 2, 2] x, float[N, 1, 4, 4] z) => (float[N, 1, 4, 4] y) {
        s = Shape(z)  r = Resize <mode = "nearest"> (x, , , s)  y = Add(r, z) }""")
    part = part_of(model, ["y"], [{"s": np.array([1, 1, 4, 4])}])
    feeds = {
        "x": np.array([[[[1, 2], [3, 4]]]], np.float32),
        "z": np.zeros((1, 1, 4, 4), np.float32),
    }
    result = outputs(part, {**feeds, "s": np.array([1, 1, 4, 4])})["y"]
    np.testing.assert_array_equal(result[0, 0], np.kron([[1, 2], [3, 4]], np.ones((2, 2))))


def test_progress_is_told_and_data_wanted() -> None:
    model = parse(TEXT)
    steps: list[tuple[int, int]] = []
    data = dataset_of({"x": VALUES}, Session(io.to_bytes(model)).inputs)
    context = RuntimeContext(data, progress=lambda done, total: steps.append((done, total)))
    list(context.paired_activations(model, model).batches(["a"], ["a"], node(model, "one")))
    assert steps[-1] == (20, 20)
    with pytest.raises(DataError, match="activations need calibration data"):
        RuntimeContext().paired_activations(model, model)
