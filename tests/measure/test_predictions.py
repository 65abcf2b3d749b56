import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.data.parts import Part, WholePart
from onnxcompress.errors import DataError
from onnxcompress.measure.predictions import batch_outputs, predict
from onnxcompress.runtime.session import Session
from tests.helpers import parse_model

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
X = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)


def _session(text: str) -> Session:
    return Session(parse_model(f"{HEAD} {text}").SerializeToString())


FREE = """g (float[N, 3] x) => (float[N, 3] y, float[N] z) <int64[1] a = {1}> {
    y = Neg(x)
    z = ReduceMax<keepdims = 0>(x, a)
  }"""


@pytest.mark.parametrize("batch", ["N", "4"])
def test_outputs_are_joined_and_padding_is_cut(batch: str) -> None:
    session = _session(FREE.replace("[N", f"[{batch}"))
    found = predict(session, dataset_of({"x": X}, session.inputs), 3)
    assert found.samples == 7
    assert list(found.outputs) == ["y", "z"]
    np.testing.assert_array_equal(found.output("y"), -X)
    np.testing.assert_array_equal(found.output("z"), X.max(axis=1))


def test_only_the_outputs_asked_for() -> None:
    session = _session(FREE)
    batches = list(batch_outputs(session, dataset_of({"x": X}, session.inputs), 3, ["z"]))
    assert [list(found) for _, found in batches] == [["z"]] * 3
    joined = np.concatenate([found["z"].array for _, found in batches])
    np.testing.assert_array_equal(joined, X.max(axis=1))


def test_an_output_that_is_none() -> None:
    session = _session(FREE)
    found = predict(session, dataset_of({"x": X}, session.inputs), 3)
    with pytest.raises(DataError, match="no output 'q'; its outputs are 'y', 'z'"):
        found.output("q")


def test_samples_of_differing_shape_are_a_list() -> None:
    session = _session("g (float[N, W] x) => (float[N, W] y) { y = Neg(x) }")
    wide = np.ones((2, 5), np.float32)
    parts = [dataset_of({"x": array}, session.inputs)._store.parts[0] for array in (X, wide)]
    found = predict(session, Dataset(parts, session.inputs), 4)
    output = found.output("y")
    assert isinstance(output, list)
    assert [array.shape for array in output] == [(3,)] * 7 + [(5,)] * 2
    np.testing.assert_array_equal(np.stack(output[:7]), -X)


def test_whole_feeds_are_not_cut() -> None:
    session = _session("g (float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }")
    parts: list[Part] = [WholePart({"x": X[:2]}, "a"), WholePart({"x": X[2:]}, "b")]
    found = predict(session, Dataset(parts, session.inputs), 4)
    output = found.output("y")
    assert found.samples == 2
    np.testing.assert_array_equal(output[0], -X[:2])
    np.testing.assert_array_equal(output[1], -X[2:])


def test_an_output_without_a_batch_axis_is_a_list_of_batches() -> None:
    session = _session("g (float[N, 3] x) => (float y) { y = ReduceSum<keepdims=0>(x) }")
    output = predict(session, dataset_of({"x": X}, session.inputs), 3).output("y")
    sums = [X[:3].sum(dtype=np.float64), X[3:6].sum(dtype=np.float64), X[6:].sum(dtype=np.float64)]
    assert isinstance(output, list)
    np.testing.assert_allclose(output, sums, rtol=1e-5)


def test_progress_counts_samples() -> None:
    session = _session(FREE)
    steps: list[tuple[int, int]] = []
    dataset = dataset_of({"x": X}, session.inputs)
    predict(session, dataset, 3, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(3, 7), (6, 7), (7, 7)]
