"""What earlier judges let through, and what they refused for nothing: one test a report."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxcompress.budget import Budget
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.score import Verdict
from tests.judging import outputs, scenes
from tests.judging.graphs import judge_graphs
from tests.judging.scripted import Scripted, judge

BUDGET: Final = Budget(0.01)


def test_a_regressor_that_always_answers_the_same_is_refused() -> None:
    prices = np.random.default_rng(0).uniform(39.9, 373.1, (200, 1)).astype(np.float32)
    original = Scripted({"variable": prices})
    for metric in (None, "cosine", "r2", "mae", "rmse", "sqnr", "spearman"):
        score = judge(original, {"variable": np.full_like(prices, 159.8)}, metric=metric)
        assert score.verdict(BUDGET) is Verdict.FAILED, metric


def test_every_output_of_a_face_net_is_judged() -> None:
    rng = np.random.default_rng(1)
    face = outputs.softmax(outputs.logits(rng, 2))
    answers = {
        "face": face,
        "box": rng.normal(0, 0.1, (outputs.SAMPLES, 4)).astype(np.float32),
        "landmarks": outputs.landmarks(rng, 5),
    }
    original = Scripted(answers)
    inverted = judge(original, {**answers, "face": face[:, ::-1]})
    assert inverted.worst.name == "face"
    assert inverted.verdict(BUDGET) is Verdict.FAILED
    for name, values in answers.items():
        dead = judge(original, {**answers, name: np.zeros_like(values)})
        assert dead.worst.name == name
        assert dead.verdict(BUDGET) is Verdict.FAILED
    only = judge(original, {**answers, "face": face[:, ::-1]}, judged=["box", "landmarks"])
    assert only.drop == 0


def test_a_detector_is_judged_by_its_boxes() -> None:
    rng = np.random.default_rng(2)
    scene = scenes.scenes(rng, 40)
    original = Scripted(scenes.yolov8(scene))
    score = judge(original, scenes.yolov8(scenes.tenth_missed(scene, rng)))
    assert score.drop > 0.03
    assert score.verdict(BUDGET) is Verdict.FAILED


def quality(rng: np.random.Generator) -> np.ndarray:
    """Three scores of one to five that go together, the third the lowest as a rule."""
    base = rng.uniform(1.5, 4, (200, 1))
    return (base + [0.5, 0.8, 0.0] + 0.3 * rng.standard_normal((200, 3))).astype(np.float32)


def test_three_regressions_are_no_classes() -> None:
    rng = np.random.default_rng(3)
    scores = quality(rng)
    original = Scripted({"Identity:0": scores})
    near = judge(original, {"Identity:0": scores + rng.normal(0, 0.01, scores.shape)})
    assert near.worst.kind is OutputKind.NUMBERS
    assert near.verdict(BUDGET) is Verdict.PROVED
    # The order stays as it is, so that each answer's highest score is where it was.
    flat = scores.mean(axis=0) + 0.1 * (scores - scores.mean(axis=0))
    assert judge(original, {"Identity:0": flat}).verdict(BUDGET) is Verdict.FAILED
    constant = np.broadcast_to(scores.mean(axis=0), scores.shape)
    for metric in (None, "cosine", "sqnr"):
        score = judge(original, {"Identity:0": constant}, metric=metric)
        assert score.verdict(BUDGET) is Verdict.FAILED, metric


SCORE: Final = "g (float[N, 1] x) => (float[N, 1] score) { %s score = Sigmoid(y) }"


def test_a_wake_word_that_never_comes_is_held_and_proves_nothing() -> None:
    rng = np.random.default_rng(4)
    data = {"x": rng.normal(-12, 1, (150, 1)).astype(np.float32)}
    original = SCORE % "y = Identity(x)"
    off = "k = Constant <value_float = 0.05> () y = Add(x, k)"
    score = judge_graphs(original, SCORE % off, data)
    assert score.worst.kind is OutputKind.NUMBER
    assert score.verdict(BUDGET) is Verdict.HELD
    assert score.worst.constant_drop is not None and score.worst.constant_drop <= 0.01
    always = "k = Constant <value_float = 10.0> () y = Add(x, k)"
    assert judge_graphs(original, SCORE % always, data).verdict(BUDGET) is Verdict.FAILED


def test_a_wake_word_that_comes_is_judged() -> None:
    rng = np.random.default_rng(5)
    said = rng.random((150, 1)) < 0.3
    data = {"x": (rng.normal(-12, 1, (150, 1)) + 18 * said).astype(np.float32)}
    original = SCORE % "y = Identity(x)"
    deaf = "k = Constant <value_float = -20.0> () y = Add(x, k)"
    assert judge_graphs(original, SCORE % deaf, data).verdict(BUDGET) is Verdict.FAILED
    near = "k = Constant <value_float = 0.02> () y = Add(x, k)"
    assert judge_graphs(original, SCORE % near, data).verdict(BUDGET) is Verdict.PROVED


def test_an_embedding_of_cosine_0998_is_accepted() -> None:
    rng = np.random.default_rng(6)
    vectors = outputs.embedding(rng, 2048, positive=True)
    noise = rng.standard_normal(vectors.shape) * np.sqrt(0.004 * np.square(vectors).mean())
    for name in ("output", "495", "embeddings"):
        score = judge(Scripted({name: vectors}), {name: (vectors + noise).astype(np.float32)})
        assert score.worst.kind is OutputKind.EMBEDDING
        assert score.verdict(BUDGET) is Verdict.PROVED, score.worst


def test_a_curve_over_time_is_no_choice() -> None:
    rng = np.random.default_rng(7)
    curves = outputs.curve(rng)
    for declared in (("batch", "frames"), ("batch", 200)):
        original = Scripted({"output": curves}, {"output": declared})
        near = judge(original, {"output": curves + rng.normal(0, 0.05, curves.shape)})
        assert near.worst.kind is OutputKind.MAP
        assert near.verdict(BUDGET) is Verdict.PROVED
        late = judge(original, {"output": np.roll(curves, 8, axis=1)})
        assert late.verdict(BUDGET) is Verdict.FAILED


def test_characters_count_not_blanks() -> None:
    rng = np.random.default_rng(8)
    values = outputs.recognizer(rng, frames=60)
    probabilities = outputs.softmax(values)
    original = Scripted({"softmax": probabilities})
    chosen = probabilities.argmax(axis=-1)
    wrong = probabilities.copy()
    hit = (chosen != 0) & (rng.random(chosen.shape) < 0.05)
    wrong[hit] = np.roll(wrong[hit], 1, axis=-1)
    score = judge(original, {"softmax": wrong})
    assert score.worst.metric == "cer"
    assert 0.03 < score.drop < 0.1
    assert score.verdict(BUDGET) is Verdict.FAILED


MAP: Final = "g (float[N, 1, 8, 8] x) => (float[N, 1, 8, 8] maps) { %s maps = Sigmoid(y) }"


def test_a_text_detector_on_pages_without_text_is_held() -> None:
    rng = np.random.default_rng(9)
    data = {"x": rng.normal(-18, 1, (40, 1, 8, 8)).astype(np.float32)}
    twice = "k = Constant <value_float = 0.7> () y = Add(x, k)"
    score = judge_graphs(MAP % "y = Identity(x)", MAP % twice, data)
    assert score.drop < 1e-6
    assert score.verdict(BUDGET) is Verdict.HELD


SELECTS: Final = """g (float[N, 60, 4] boxes, float[N, 2, 60] scores) => (int64[n, 3] selected) {
    most = Constant <value_ints = [20]> ()
    iou = Constant <value_floats = [0.45]> ()
    least = Constant <value_floats = [%s]> ()
    selected = NonMaxSuppression(boxes, scores, most, iou, least)
}"""


def test_a_box_more_or_less_is_no_catastrophe() -> None:
    rng = np.random.default_rng(10)
    first = rng.uniform(0, 1, (50, 60, 2))
    boxes = np.concatenate([first, first + 0.05], axis=-1).astype(np.float32)
    data = {"boxes": boxes, "scores": rng.random((50, 2, 60)).astype(np.float32)}
    score = judge_graphs(SELECTS % "0.8", SELECTS % "0.802", data)
    assert 0 < score.drop < 0.05
    none = judge_graphs(SELECTS % "0.8", SELECTS % "1.5", data)
    assert none.verdict(BUDGET) is Verdict.FAILED
    assert np.isfinite(none.drop)


def test_no_changed_answer_proves_two_per_cent_and_not_one() -> None:
    rng = np.random.default_rng(11)
    values = outputs.logits(rng, 10, 169)
    score = judge(Scripted({"logits": values}), {"logits": values})
    low, high = score.worst.drop_interval
    assert low == 0
    assert 0.015 < high < 0.025
    assert score.verdict(BUDGET) is Verdict.HELD
    assert score.verdict(Budget(0.03)) is Verdict.PROVED


def _zip_map(shift: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Add", ["x", "k"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"]),
        helper.make_node(
            "ZipMap",
            ["p"],
            ["probabilities"],
            domain="ai.onnx.ml",
            classlabels_strings=["a", "b", "c"],
        ),
    ]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(
            TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        )
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_value_info("probabilities", kind)],
        [helper.make_tensor("k", TensorProto.FLOAT, [3], [shift, 0, 0])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


def test_values_in_maps_are_numbers() -> None:
    data = {"x": np.random.default_rng(12).normal(0, 2, (60, 3)).astype(np.float32)}
    for batch_size in (1, 8):
        near = judge_graphs(_zip_map(0), _zip_map(0.02), data, batch_size=batch_size)
        assert near.worst.kind is OutputKind.MAPS
        assert near.verdict(BUDGET) is Verdict.PROVED
        wrong = judge_graphs(_zip_map(0), _zip_map(1.0), data, batch_size=batch_size)
        assert wrong.verdict(BUDGET) is Verdict.FAILED
