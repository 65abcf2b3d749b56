"""Real int8 files of a detector: what costs detections is refused at one per cent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from onnxcompress.budget import Budget
from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.judging.score import Verdict
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeStatic
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.verdict import detections
from tests.verdict.conftest import Zoo
from tests.verdict.replay import Judge
from tests.verdict.support import Outputs, answers

NAME: Final = "nudenet"
CALIBRATION: Final = 12
BUDGET: Final = Budget(0.01)


class _Reader(CalibrationDataReader):
    """Pictures one by one, as onnxruntime's quantizer wants them."""

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures: Iterator[np.ndarray] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {"images": picture[None]}


def ours(original: Path, pictures: np.ndarray, to: Path) -> None:
    """`quantize-static` as it comes."""
    model = io.load(original)
    data = dataset_of({"images": pictures}, Session(original).inputs)
    PassManager([QuantizeStatic()]).run(model, RuntimeContext(data))
    io.save(model, to)


def theirs(original: Path, pictures: np.ndarray, to: Path) -> None:
    """onnxruntime's quantizer as it comes: boxes in pixels and scores share one range."""
    _by_onnxruntime(original, pictures, to, [])


def their_body(original: Path, pictures: np.ndarray, to: Path) -> None:
    """onnxruntime's quantizer with what decodes boxes left in float."""
    nodes = onnx.load(original).graph.node
    _by_onnxruntime(
        original, pictures, to, [node.name for node in nodes if "model.22" in node.name]
    )


def _by_onnxruntime(original: Path, pictures: np.ndarray, to: Path, excluded: list[str]) -> None:
    quantize_static(
        original,
        to,
        _Reader(pictures),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded,
    )


@pytest.fixture(scope="module")
def judge(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Of the pictures that nothing was calibrated on."""
    data = tmp_path_factory.mktemp("int8") / "data.npz"
    with np.load(zoo.data(NAME)) as stored:
        np.savez(data, images=stored["images"][CALIBRATION:])
    return Judge(zoo.original(NAME), zoo.answers(NAME)[CALIBRATION:], data)


@pytest.mark.parametrize("quantize", [ours, theirs, their_body], ids=lambda each: each.__name__)
def test_int8_that_costs_detections_is_refused(
    quantize: object, zoo: Zoo, judge: Judge, tmp_path: Path
) -> None:
    assert callable(quantize)
    with np.load(zoo.data(NAME)) as stored:
        pictures = stored["images"]
    quantize(zoo.original(NAME), pictures[:CALIBRATION], tmp_path / "int8.onnx")
    np.savez(tmp_path / "data.npz", images=pictures[CALIBRATION:])
    found = answers(tmp_path / "int8.onnx", tmp_path / "data.npz")
    quality = detections.CASES[NAME].quality(judge.answers, found)
    score = judge.score(found)
    # Which detections cross the threshold depends on the processor; that some do does not.
    assert quality < 0.97
    assert score.verdict(BUDGET) is Verdict.FAILED, (quality, score.worst)


@pytest.mark.parametrize("share", [0.9, 0.85])
def test_scores_that_are_all_lower_cost_detections(share: float, judge: Judge) -> None:
    lower: Outputs = []
    for each in judge.answers:
        found = each["output0"].copy()
        found[:, 4:] *= share
        lower.append({"output0": found})
    assert detections.CASES[NAME].quality(judge.answers, lower) < 0.95
    assert judge.score(lower).verdict(BUDGET) is Verdict.FAILED
