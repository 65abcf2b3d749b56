from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.data.parts import ArraysPart
from onnxcompress.errors import DataError, OutputError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.quantization.histogram import Histogram
from onnxcompress.runtime import calibration
from onnxcompress.runtime.calibration import (
    CalibrationTable,
    Progress,
    fingerprint,
    stream,
    watch,
)
from onnxcompress.runtime.session import Session
from tests.helpers import node, parse, proto, reload

TEXT = "g (float[N, L] x) => (float[N, L] y) { h = Mul(x, x)  y = Neg(h) }"
VALUES = np.random.default_rng(0).standard_normal((50, 7), np.float32)


def _data(model: Model, *arrays: np.ndarray) -> Dataset:
    signature = Session(io.to_bytes(model)).inputs
    if len(arrays) == 1:
        return dataset_of({"x": arrays[0]}, signature)
    return Dataset([ArraysPart({"x": one}, signature, "part") for one in arrays], signature)


def gather(
    model: Model,
    tensors: Sequence[str],
    data: Dataset,
    *,
    bytes_per_sample: int,
    progress: Progress | None = None,
) -> dict[str, Histogram]:
    values = stream(model, tensors, data, bytes_per_sample=bytes_per_sample, progress=progress)
    return calibration.gather(tensors, values)


def _as_tuple(histogram: Histogram) -> tuple[object, ...]:
    return (
        histogram.exponent,
        histogram.first,
        histogram.counts.tolist(),
        histogram.minimum,
        histogram.maximum,
    )


def _same(one: Mapping[str, Histogram], other: Mapping[str, Histogram]) -> None:
    assert list(one) == list(other)
    for name, histogram in one.items():
        assert _as_tuple(histogram) == _as_tuple(other[name]), name


def test_values_are_counted_where_they_arise() -> None:
    model = parse(TEXT)
    found = gather(model, ["h", "y", "x"], _data(model, VALUES), bytes_per_sample=1)
    expected = {"h": VALUES * VALUES, "y": -(VALUES * VALUES), "x": VALUES}
    for name, values in expected.items():
        whole = Histogram()
        whole.add(values)
        assert found[name].total == values.size
        assert _as_tuple(found[name]) == _as_tuple(whole)


@pytest.mark.parametrize("size", [1, 3, 16, 50, 1000])
def test_batches_of_any_size_give_identical_histograms(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = parse(TEXT)
    whole = gather(model, ["x", "h"], _data(model, VALUES), bytes_per_sample=1)
    monkeypatch.setattr(calibration, "BATCH_BYTES", size * 100)
    steps: list[tuple[int, int]] = []
    found = gather(
        model,
        ["x", "h"],
        _data(model, VALUES),
        bytes_per_sample=100,
        progress=lambda done, total: steps.append((done, total)),
    )
    _same(found, whole)
    assert steps == [(min(done, 50), 50) for done in range(size, 50 + size, size)]


def test_one_sample_may_exceed_the_batch_memory() -> None:
    model = parse(TEXT)
    steps: list[int] = []
    gather(
        model,
        ["h"],
        _data(model, VALUES[:3]),
        bytes_per_sample=1 << 40,
        progress=lambda done, _: steps.append(done),
    )
    assert steps == [1, 2, 3]


def test_batches_of_differing_shapes() -> None:
    model = parse(TEXT)
    short, long = VALUES[:10, :3], VALUES[10:]
    found = gather(model, ["x", "h"], _data(model, short, long), bytes_per_sample=1)
    both = np.concatenate([short.ravel(), long.ravel()])
    for name, values in {"x": both, "h": both * both}.items():
        whole = Histogram()
        whole.add(values)
        assert _as_tuple(found[name]) == _as_tuple(whole)


def test_graph_inputs_alone() -> None:
    model = parse(TEXT)
    found = gather(model, ["x"], _data(model, VALUES), bytes_per_sample=1)
    assert (found["x"].minimum, found["x"].maximum) == (VALUES.min(), VALUES.max())


@pytest.mark.parametrize("bad", ["log", "overflow"])
def test_a_tensor_that_is_not_finite_is_left_out(bad: str) -> None:
    model = parse("""g (float[N] x) => (float[N] y)
        { log = Log(x)  big = Exp(x)  overflow = Mul(big, big)  y = Add(log, overflow) }""")
    data = _data(model, np.float32([1, 2, -1 if bad == "log" else 88]))
    found = gather(model, ["big", bad], data, bytes_per_sample=1)
    assert list(found) == ["big"]
    assert found["big"].counts.sum() == 3


def test_watch_adds_outputs_and_leaves_the_model_alone() -> None:
    model = parse("""g (float[4] x) => (float[4] y)
        { s = Cast <to = 7> (x)  h = Neg(x)  q = SequenceConstruct(h, x)  y = Exp(h) }""")
    before = io.to_bytes(model)
    session = watch(model, ["s", "y", "h", "q"])
    assert [output.name for output in session.outputs] == ["y", "s", "h", "q"]
    values = session.run({"x": np.ones(4, np.float32)})
    assert (values["s"].dtype, values["h"].tolist(), len(values["q"])) == (np.int64, [-1] * 4, 2)
    assert io.to_bytes(model) == before


def test_the_fingerprint_is_of_what_is_computed() -> None:
    text = """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        { a = Clip <min = 0.0> (x)  y = Mul(a, w) }"""
    old = '<ir_version: 8, opset_import: ["" : 9]>'
    base = fingerprint(parse(old + text))
    assert base == fingerprint(reload(parse(old + text)))
    documented = parse(old + text)
    documented.envelope.metadata_props.add(key="k", value="v")
    assert fingerprint(documented) == base
    others = {
        "attribute": text.replace("0.0", "0.5"),
        "weight": text.replace("{1, 2}", "{1, 3}"),
        "operator": text.replace("Mul", "Add"),
        "shape": text.replace("float[2] x", "float[N] x"),
        "wiring": text.replace("Mul(a, w)", "Mul(w, a)"),
    }
    prints = [fingerprint(parse(old + other)) for other in others.values()]
    prints.append(fingerprint(parse(old.replace("9", "10") + text)))
    assert len({base, *prints}) == 7


def test_strings_have_a_fingerprint_of_their_own() -> None:
    text = 'g () => (string[1] y) <string[1] w = {{"{}"}}> {{ y = Identity(w) }}'
    prints = [fingerprint(parse(text.format(word))) for word in ("one", "one", "two")]
    assert prints[0] == prints[1] != prints[2]


def test_bodies_and_edits_change_the_fingerprint() -> None:
    text = """g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <then_branch = t () => (float[2] o) { o = Neg(x) },
                    else_branch = e () => (float[2] p) { p = Exp(x) }> }"""
    model = parse(text)
    before = fingerprint(model)
    Editor(model).set_attribute(node(model, "Neg_o"), "k", 1)
    assert fingerprint(model) != before == fingerprint(parse(text))


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    model = parse(TEXT)
    histograms = gather(model, ["x", "h"], _data(model, VALUES), bytes_per_sample=1)
    table = CalibrationTable("model print", "data print", dict(histograms))
    table.save(tmp_path / "table.npz")
    again = CalibrationTable.load(tmp_path / "table.npz")
    assert (again.model, again.data) == ("model print", "data print")
    _same(again.histograms, histograms)
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


@pytest.mark.parametrize(
    "content", ["missing", "empty", "text", "model", "truncated", "other npz", "npy"]
)
def test_files_that_are_no_table(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.npz"
    if content == "empty":
        path.touch()
    elif content == "text":
        path.write_text("not a table")
    elif content == "model":
        path.write_bytes(proto(TEXT).SerializeToString())
    elif content == "truncated":
        CalibrationTable("m", "d", {"x": Histogram()}).save(path)
        path.write_bytes(path.read_bytes()[:-30])
    elif content == "npy":
        with path.open("wb") as file:
            np.save(file, VALUES)
    elif content == "other npz":
        np.savez(path, x=VALUES)
    with pytest.raises(DataError, match=r"table.npz: not a calibration table"):
        CalibrationTable.load(path)


def test_a_table_that_cannot_be_written(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            CalibrationTable("m", "d").save(folder / "table.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_stream_yields_every_sample_once_in_order() -> None:
    model = parse(TEXT)
    batches = [
        {name: value.copy() for name, value in batch.items()}
        for batch in stream(model, ["h", "x"], _data(model, VALUES), bytes_per_sample=1)
    ]
    np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in batches]), VALUES)
    np.testing.assert_array_equal(
        np.concatenate([batch["h"] for batch in batches]), VALUES * VALUES
    )
