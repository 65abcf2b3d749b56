"""Samples of differing shapes, batches, whole feeds, states, and few samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcompress.budget import Budget
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.questions import STATE_SAMPLES
from onnxcompress.judging.score import Verdict
from tests.judging import outputs
from tests.judging.graphs import judge_graphs
from tests.judging.scripted import Scripted, judge
from tests.judging.test_adversaries import noisy

BUDGET: Final = Budget(0.01)


def write_sets(folder: Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> Path:
    """Folders as of ONNX's own tests, one a sample."""
    for number, feed in enumerate(feeds):
        inner = folder / f"test_data_set_{number}"
        inner.mkdir(parents=True)
        for place, (name, array) in enumerate(feed.items()):
            onnx.save_tensor(numpy_helper.from_array(array, name), inner / f"input_{place}.pb")
    return folder


def _recurrent(gain: float, leak: float) -> str:
    return f"""g (float[N, 4] x, float[N, 4] past) => (float[N, 4] output, float[N, 4] present) {{
        g = Constant <value_float = {gain:.4f}> ()
        l = Constant <value_float = {leak:.4f}> ()
        kept = Mul(past, l)
        present = Add(x, kept)
        sums = Add(x, past)
        output = Mul(sums, g)
    }}"""


def test_a_state_may_lose_ten_times_the_budget_and_no_more() -> None:
    rng = np.random.default_rng(0)
    shape = (80, 4)
    data = {
        "x": rng.standard_normal(shape).astype(np.float32),
        "past": rng.standard_normal(shape).astype(np.float32),
    }
    original = _recurrent(1, 0.5)
    near = judge_graphs(original, _recurrent(1.001, 0.6), data)
    kinds = {each.name: each.kind for each in near.outputs}
    assert kinds == {"output": OutputKind.NUMBERS, "present": OutputKind.STATE}
    assert near.verdict(BUDGET) is not Verdict.FAILED
    dead = judge_graphs(original, _recurrent(1, -1), data)
    assert dead.worst.name == "present"
    assert dead.verdict(BUDGET) is Verdict.FAILED
    assert STATE_SAMPLES < 80


LINE: Final = "g (float[T, 3] x) => (float[T, 3] y) { k = Constant <value_float = %s> () y = %s }"


def test_feeds_that_stand_for_themselves(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    feeds = [
        {"x": rng.standard_normal((length, 3)).astype(np.float32)}
        for length in rng.integers(5, 20, 30)
    ]
    data = write_sets(tmp_path, feeds)
    original = LINE % ("1.0", "Mul(x, k)")
    near = judge_graphs(original, LINE % ("1.01", "Mul(x, k)"), data)
    assert near.verdict(BUDGET) is not Verdict.FAILED, near.worst
    for wrong in (("0.5", "Mul(x, k)"), ("-1.0", "Mul(x, k)"), ("0.0", "Mul(x, k)")):
        score = judge_graphs(original, LINE % wrong, data)
        assert score.verdict(BUDGET) is Verdict.FAILED, wrong


CLASSES: Final = """g (float[1, 10] x) => (float[1, 10] probabilities) {
    k = Constant <value_float = %s> () y = %s probabilities = Softmax(y)
}"""


@pytest.mark.parametrize("count", [1, 2, 20])
def test_few_feeds(tmp_path: Path, count: int) -> None:
    values = outputs.logits(np.random.default_rng(2), 10, count)
    data = write_sets(tmp_path, [{"x": row[None]} for row in values])
    original = CLASSES % ("1.0", "Mul(x, k)")
    near = judge_graphs(original, CLASSES % ("1.01", "Mul(x, k)"), data)
    assert near.worst.kind is OutputKind.CHOICE
    assert near.verdict(BUDGET) is Verdict.HELD
    wrong = judge_graphs(original, CLASSES % ("-1.0", "Mul(x, k)"), data)
    assert wrong.verdict(BUDGET) is Verdict.FAILED


FREE: Final = """g (float[N, 10] x) => (float[N, 10] probabilities, float[N, 4] box) {
    k = Constant <value_float = %s> ()
    y = Mul(x, k)
    probabilities = Softmax(y)
    b = Constant <value_ints = [0]> ()
    e = Constant <value_ints = [4]> ()
    a = Constant <value_ints = [1]> ()
    part = Slice(x, b, e, a)
    s = Constant <value_float = %s> ()
    box = Mul(part, s)
}"""


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_of_any_size_say_the_same(batch_size: int) -> None:
    data = {"x": outputs.logits(np.random.default_rng(4), 10, 100)}
    original = FREE % ("1.0", "1.0")
    near = judge_graphs(original, FREE % ("0.99", "1.01"), data, batch_size=batch_size)
    assert near.verdict(BUDGET) is not Verdict.FAILED
    for name, wrong in (("probabilities", ("-1.0", "1.0")), ("box", ("1.0", "0.0"))):
        score = judge_graphs(original, FREE % wrong, data, batch_size=batch_size)
        assert score.worst.name == name
        assert score.verdict(BUDGET) is Verdict.FAILED


@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.parametrize("name", ["output", "495", "output0"])
def test_few_samples_are_no_reason_to_refuse(count: int, name: str) -> None:
    rng = np.random.default_rng(5)
    makers = (
        lambda: outputs.logits(rng, 10, count),
        lambda: outputs.softmax(outputs.logits(rng, 10, count)),
        lambda: outputs.embedding(rng, 128)[:count],
        lambda: rng.normal(100, 20, (count, 1)).astype(np.float32),
        lambda: outputs.curve(rng)[:count],
        lambda: outputs.depth(rng)[:count],
        lambda: outputs.softmax(outputs.recognizer(rng)[:count]),
    )
    for make in makers:
        values = make()
        original = Scripted({name: values})
        rounded = (values * (1 + 1e-6)).astype(values.dtype)
        assert judge(original, {name: rounded}).drop < 0.01
        near = values if count == 1 else noisy(values, rng, 40)
        score = judge(original, {name: near})
        assert score.verdict(BUDGET) is not Verdict.FAILED, score.worst
        if count == 1:
            assert score.verdict(BUDGET) is Verdict.HELD, score.worst
        wrong = judge(original, {name: -values})
        assert wrong.verdict(BUDGET) is Verdict.FAILED, wrong.worst


def test_samples_of_differing_lengths() -> None:
    rng = np.random.default_rng(6)
    lengths = rng.integers(12, 40, 60)
    waves = [outputs.curve(rng, int(length))[0] for length in lengths]
    lines = [outputs.recognizer(rng, int(length))[0] for length in lengths]
    masks = [outputs.spectrogram_mask(rng, 33, int(length))[0] for length in lengths]
    for answers in (waves, lines, masks):
        original = Scripted({"output": [each[None] for each in answers]})
        near = [noisy(each, rng, 40)[None] for each in answers]
        score = judge(original, {"output": near})
        assert score.verdict(BUDGET) is not Verdict.FAILED, score.worst
        for factor in (0.0, -1.0):
            wrong = judge(original, {"output": [factor * each[None] for each in answers]})
            assert wrong.verdict(BUDGET) is Verdict.FAILED, wrong.worst
        shorter = judge(original, {"output": [each[None, :-3] for each in answers]})
        assert shorter.verdict(BUDGET) is Verdict.FAILED, shorter.worst


def test_what_is_wrong_is_said() -> None:
    rng = np.random.default_rng(7)
    values = outputs.depth(rng)
    original = Scripted({"depth": values})
    holes = values.copy()
    holes[3, 0, 0, 0] = np.nan
    endless = values.copy()
    endless[3, 0, 0, 0] = np.inf
    for wrong, word in ((holes, "NaN"), (endless, "infinite"), (values[..., :-1], "shape")):
        score = judge(original, {"depth": wrong})
        assert score.verdict(BUDGET) is Verdict.FAILED
        assert word in str(score.worst.problem)


def test_labels_go_with_the_output_that_they_are_nearest_to() -> None:
    rng = np.random.default_rng(9)
    answers = {f"head{place}": outputs.softmax(outputs.logits(rng, 4)) for place in range(3)}
    labels = answers["head1"].argmax(axis=1)
    score = judge(Scripted(answers), answers, {"labels": labels})
    assert [each.metric for each in score.outputs] == ["agreement", "top1", "agreement"]
    numbers = {
        name: rng.uniform(1, 90, (outputs.SAMPLES, 1)).astype(np.float32)
        for name in ("height", "age")
    }
    near = numbers["age"][:, 0] + rng.normal(0, 3, outputs.SAMPLES)
    score = judge(Scripted(numbers), numbers, {"labels": near})
    assert [each.labelled for each in score.outputs] == [False, True]


def test_few_samples_prove_nothing() -> None:
    rng = np.random.default_rng(10)
    values = rng.uniform(1, 90, (20, 1)).astype(np.float32)
    score = judge(Scripted({"age": values}), {"age": values + np.float32(0.01)})
    assert score.verdict(BUDGET) is Verdict.HELD


def test_one_output_of_many_is_enough_to_refuse() -> None:
    rng = np.random.default_rng(8)
    answers = {
        "logits": outputs.logits(rng, 10),
        "embedding": outputs.embedding(rng, 64),
        "age": rng.uniform(1, 90, (outputs.SAMPLES, 1)).astype(np.float32),
        "mask": outputs.spectrogram_mask(rng),
        "count": rng.integers(0, 9, outputs.SAMPLES),
    }
    original = Scripted(answers)
    near = {
        name: noisy(values, rng, 40) if values.dtype == np.float32 else values
        for name, values in answers.items()
    }
    assert judge(original, near).verdict(BUDGET) is not Verdict.FAILED
    for name, values in answers.items():
        for wrong in (np.zeros_like(values), values[rng.permutation(len(values))]):
            score = judge(original, {**near, name: wrong})
            assert score.worst.name == name
            assert score.verdict(BUDGET) is Verdict.FAILED
