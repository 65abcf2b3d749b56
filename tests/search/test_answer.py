"""What is written is what was measured, whatever an output holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcompress.errors import OutputError
from onnxcompress.ir import io
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.measure.objects import same_value
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.runtime.session import Session
from onnxcompress.search.answer import write_answer
from onnxcompress.search.compress import compress
from tests.helpers import parse

NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.0]), True),
        (np.array([1.0, NAN]), np.array([1.0, NAN]), True),
        (np.array([0.0]), np.array([-0.0]), False),
        (np.array([1.0]), np.array([1.0 + 2**-52]), False),
        (np.array([1.0]), np.array([1.0], np.float32), False),
        (np.array([1.0]), np.array([[1.0]]), False),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), True),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), False),
        (np.array(["ab"], object), np.array(["ab", "c"], object), False),
        (np.array([{"a": 0.5}], object), np.array([{"a": 0.5}], object), True),
        (np.array([{"a": 0.5}], object), np.array([{"a": 0.25}], object), False),
        (np.array([{"a": 0.5}], object), np.array([{"b": 0.5}], object), False),
        (np.array([{1: NAN}], object), np.array([{1: NAN}], object), True),
        ([np.array([1]), np.array([2, 3])], [np.array([1]), np.array([2, 3])], True),
        ([np.array([1]), np.array([2, 3])], [np.array([1]), np.array([2, 4])], False),
        ([np.array([1])], [np.array([1]), np.array([2])], False),
        ("text", "text", True),
        (None, None, True),
        (None, np.array([1.0]), False),
    ],
)
def test_the_same_bits(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


def test_another_model_is_removed(tmp_path: Path) -> None:
    text = "g (float[N,1] x) => (float[N,1] y) <float[1] w = {1.5}> { y = Mul(x, w) }"
    io.save(parse(text), tmp_path / "measured.onnx")
    feed = {"x": np.ones((1, 1), np.float32)}
    output = tmp_path / "out.onnx"
    written = write_answer(parse(text), output, tmp_path / "measured.onnx", feed)
    assert list(written) == [output]
    with pytest.raises(OutputError, match=r"output 'y' of the written file differs.*was removed"):
        write_answer(parse(text.replace("1.5", "2.5")), output, tmp_path / "measured.onnx", feed)
    assert not output.exists()


def _strings() -> onnx.ModelProto:
    """Texts by number."""
    texts = [b"ant", b"bee", b"cat", b"dog"] * 6
    names = helper.make_tensor("names", TensorProto.STRING, [24], texts)
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Gather", ["names", "same"], ["y"]),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])],
        [names],
    )


def _maps(attribute: str, keys: list[Any]) -> onnx.ModelProto:
    """A map from names of classes to their share for each sample, as scikit-learn is exported."""
    key = TensorProto.STRING if isinstance(keys[0], str) else TensorProto.INT64
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("MatMul", ["same", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
        helper.make_node("ZipMap", ["shares"], ["y"], domain="ai.onnx.ml", **{attribute: keys}),
    ]
    share = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_value_info(
                "y", helper.make_sequence_type_proto(helper.make_map_type_proto(key, share))
            )
        ],
        [numpy_helper.from_array(weights, "w")],
    )


def _sequence() -> onnx.ModelProto:
    """Two tensors in a sequence."""
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Neg", ["same"], ["less"]),
        helper.make_node("SequenceConstruct", ["same", "less"], ["y"]),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("less", TensorProto.FLOAT, ["N", 4]),
            helper.make_value_info("y", helper.make_sequence_type_proto(kind)),
        ],
        [],
    )


def _model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], stored: list[Any]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _compressed(model: onnx.ModelProto, x: np.ndarray, folder: Path) -> Any:
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "data.npz", x=x)
    output = folder / "out.onnx"
    report = compress(
        folder / "model.onnx",
        output,
        data=str(folder / "data.npz"),
        recipe=Recipe.of([parse_pass("remove-noops")]),
    )
    assert report.candidates[0].passes[0].modified
    feed = {"x": x[:1]}
    before, after = Session(folder / "model.onnx").run(feed), Session(output).run(feed)
    assert before.keys() == after.keys()
    assert all(same_value(before[name], after[name]) for name in before)
    return report


def test_text_is_judged_and_written(tmp_path: Path) -> None:
    report = _compressed(_strings(), np.arange(24, dtype=np.int64), tmp_path)
    (output,) = report.chosen.model.score.outputs
    assert (output.kind, output.metric) == (OutputKind.STRINGS, "equal")
    assert (output.value, output.drop) == (1, 0)
    assert output.constant_drop is not None and output.constant_drop > 0.3


@pytest.mark.parametrize(
    ("attribute", "keys"),
    [("classlabels_strings", ["a", "b", "c"]), ("classlabels_int64s", [7, 8, 9])],
)
def test_maps_are_judged_and_written(attribute: str, keys: list[Any], tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((24, 4)).astype(np.float32)
    report = _compressed(_maps(attribute, keys), x, tmp_path)
    (output,) = report.chosen.model.score.outputs
    assert (output.kind, output.metric, output.drop) == (OutputKind.MAPS, "r2", 0)


def test_a_sequence_beside_a_tensor_is_written(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((24, 4)).astype(np.float32)
    report = _compressed(_sequence(), x, tmp_path)
    told = [(each.name, each.metric, each.drop) for each in report.chosen.model.score.outputs]
    assert told == [("less", "r2", 0), ("y", "agreement", 0)]


def _one(outputs: Any, labels: Any) -> float:
    del labels
    return float(set(outputs) == {"y"})


@pytest.mark.slow
def test_text_alone_is_judged_by_a_metric_of_ones_own(tmp_path: Path) -> None:
    onnx.save(_strings(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.arange(24, dtype=np.int64))
    report = compress(
        tmp_path / "model.onnx",
        tmp_path / "out.onnx",
        data=str(tmp_path / "data.npz"),
        recipe=Recipe.of([parse_pass("remove-noops")]),
        metric=_one,
    )
    (output,) = report.chosen.model.score.outputs
    assert (output.value, output.drop) == (1, 0)
