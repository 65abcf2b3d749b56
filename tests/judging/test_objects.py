"""Text, sequences and maps: what is no plain number is judged, and written, like all else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcompress import cli
from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import OutputError
from onnxcompress.ir import io
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.measure.metric import CustomMetric
from onnxcompress.measure.predictions import predict
from onnxcompress.runtime.session import Session
from onnxcompress.search.answer import write_answer
from tests.helpers import parse
from tests.judging.scripted import Scripted

RNG = np.random.default_rng(0)
X = RNG.standard_normal((14, 4)).astype(np.float32)
ML = '<ir_version: 8, opset_import: ["" : 15, "ai.onnx.ml" : 1]>'


def classifier(*, zipped: bool) -> onnx.ModelProto:
    """A text label and its probabilities, as scikit-learn's exporter writes them."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "prob"],
            domain="ai.onnx.ml",
            coefficients=[1.0, -1.0] * 4,
            intercepts=[0.0, 0.1],
            classlabels_strings=["cat", "dog"],
            post_transform="SOFTMAX",
        )
    ]
    last = helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["N", 2])
    if zipped:
        zip_map = {"domain": "ai.onnx.ml", "classlabels_strings": ["cat", "dog"]}
        nodes.append(helper.make_node("ZipMap", ["prob"], ["maps"], **zip_map))
        value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        pairs = helper.make_map_type_proto(TensorProto.STRING, value)
        last = helper.make_value_info("maps", helper.make_sequence_type_proto(pairs))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]), last],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


NAMES_ONLY = """g (float[N, 4] x) => (string[N] label)
    <float[4, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1, -1, -1, -1}, string[3] names = {"a", "b", "c"}>
    { p = MatMul(x, w)  i = ArgMax<axis = 1, keepdims = 0>(p)  label = Gather(names, i) }"""
SEQUENCE = """g (float[N, 4] x) => (float[N, 4] y, seq(float) s)
    <float[4, 4] w = {1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4}>
    { y = MatMul(x, w)  s = SplitToSequence<axis = 1>(y) }"""
PASSED = """g (int64[N] ids, float[N, 4] x) => (int64[N] same, float[N, 4] y)
    <float[4, 4] w = {1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4}>
    { same = Identity(ids)  y = MatMul(x, w) }"""


def kinds(evaluation: Evaluation) -> dict[str, OutputKind]:
    return {each.name: each.kind for each in evaluation.questions}


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_a_sequence_is_judged_by_the_numbers_in_it(batch_size: int) -> None:
    session = Session(io.to_bytes(parse(SEQUENCE)))
    data = dataset_of({"x": X}, session.inputs)
    found = predict(session, data, batch_size).output("s")
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, X * np.array([1, 2, 3, 4], np.float32))
    evaluation = Evaluation(session, data, batch_size)
    assert kinds(evaluation) == {"y": OutputKind.NUMBERS, "s": OutputKind.NUMBERS}
    other = Session(io.to_bytes(parse(SEQUENCE.replace("4}>", "-4}>"))))
    assert evaluation.score(session).worst.drop == 0
    assert evaluation.score(other).worst.drop > 0.5


def test_text_is_equal_or_not() -> None:
    answers: list[Any] = ["cat", "dog"] * 10
    wrong = [*answers[:15], "dog", "cat", *answers[17:]]
    scripted = [Scripted({"label": np.array(each, object)}) for each in (answers, wrong)]
    data = dataset_of({"sample": np.arange(20, dtype=np.float32)[:, None]}, scripted[0].inputs)
    evaluation = Evaluation(scripted[0], data, 4)  # type: ignore[arg-type]
    (score,) = evaluation.score(scripted[1]).outputs  # type: ignore[arg-type]
    assert kinds(evaluation) == {"label": OutputKind.STRINGS}
    assert score.metric == "equal"
    assert score.value == pytest.approx(1 - (np.array(answers) != np.array(wrong)).mean())
    assert score.constant_drop == pytest.approx(0.5)


def test_maps_to_text_are_equal_or_not() -> None:
    answers = np.empty(12, object)
    answers[:] = [{"id": 3, "name": "a" if at % 2 else "b"} for at in range(12)]
    wrong = answers.copy()
    wrong[3] = {"id": 3, "name": "c"}
    scripted = [Scripted({"m": each}) for each in (answers, wrong)]
    data = dataset_of({"sample": np.arange(12, dtype=np.float32)[:, None]}, scripted[0].inputs)
    evaluation = Evaluation(scripted[0], data, 4)  # type: ignore[arg-type]
    (score,) = evaluation.score(scripted[1]).outputs  # type: ignore[arg-type]
    assert kinds(evaluation) == {"m": OutputKind.OTHER}
    assert score.value == pytest.approx(11 / 12)


def test_a_metric_of_ones_own_gets_text_in_an_array() -> None:
    session = Session(io.to_bytes(parse(NAMES_ONLY)))
    data = dataset_of({"x": X, "labels": np.array(["a"] * 14)}, session.inputs)

    def right(outputs: dict[str, Any], labels: Any) -> float:
        return float((outputs["label"] == labels).mean())

    evaluation = Evaluation(session, data, 3, CustomMetric(name="right", function=right))
    expected = (X[:, :3].argmax(axis=1) == 0).mean()
    assert evaluation.score(session).worst.value == pytest.approx(expected)
    (question,) = Evaluation(session, data, 3).questions
    assert (question.kind, question.labels) == (OutputKind.STRINGS, "")


def test_nan_in_a_map_is_a_problem_of_the_candidate() -> None:
    answers = np.empty(12, object)
    answers[:] = [{"a": at / 12, "b": 1 - at / 12} for at in range(12)]
    wrong = answers.copy()
    wrong[3] = {"a": float("nan"), "b": 0.5}
    scripted = [Scripted({"m": each}) for each in (answers, wrong)]
    data = dataset_of({"sample": np.arange(12, dtype=np.float32)[:, None]}, scripted[0].inputs)
    (score,) = Evaluation(scripted[0], data, 4).score(scripted[1]).outputs  # type: ignore[arg-type]
    assert (score.kind, score.problem) == (OutputKind.MAPS, "holds NaN")


@pytest.mark.parametrize(
    "model, kinds_of",
    [
        (classifier(zipped=True), {"label": "strings", "maps": "maps"}),
        (classifier(zipped=False), {"label": "strings", "prob": "choice"}),
        (NAMES_ONLY, {"label": "strings"}),
        (SEQUENCE, {"y": "numbers", "s": "numbers"}),
        (PASSED, {"same": "integers", "y": "numbers"}),
    ],
)
@pytest.mark.parametrize("with_data", [True, False])
def test_the_command_line_writes_and_judges_them(
    model: onnx.ModelProto | str, kinds_of: dict[str, str], with_data: bool, tmp_path: Path
) -> None:
    source, output, report = (tmp_path / name for name in ("m.onnx", "out.onnx", "r.json"))
    data = ["--data", str(tmp_path / "x.npz")] if with_data else []
    io.save(parse(model), source) if isinstance(model, str) else onnx.save(model, source)
    arrays = {"x": X, "ids": np.arange(len(X))} if model is PASSED else {"x": X}
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    arguments = ["compress", str(source), "-o", str(output), "--pass", "remove-unused", *data]
    assert cli.run([*arguments, "--json", str(report)]) == cli.NOTHING_BETTER
    (candidate,) = json.loads(report.read_text())["candidates"]
    found = candidate["model"]["score"]["outputs"]
    assert {each["name"]: each["kind"] for each in found} == kinds_of
    assert {each["drop"] for each in found} == {0.0}
    feed = {"x": X[:1]} | ({"ids": np.arange(1)} if model is PASSED else {})
    assert list(Session(output).run(feed)) == list(kinds_of)


def test_the_file_is_removed_only_where_it_surely_differs(tmp_path: Path) -> None:
    measured, output = tmp_path / "measured.onnx", tmp_path / "out.onnx"
    model = parse(NAMES_ONLY)
    io.save(model, measured)
    write_answer(model, output, measured, {"x": X})
    assert output.exists()
    other = parse(NAMES_ONLY.replace('"c"', '"d"'))
    with pytest.raises(OutputError, match="output 'label' of the written file differs"):
        write_answer(other, output, measured, {"x": X})
    assert not output.exists()
    noise = parse("g (float[N, 4] x) => (float[N, 4] y) { y = RandomNormalLike(x) }")
    io.save(noise, measured)
    write_answer(noise, output, measured, {"x": X})
    assert output.exists()
