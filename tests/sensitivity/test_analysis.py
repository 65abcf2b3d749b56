"""The table says what float64 arithmetic says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.passes import QuantizeStatic, QuantizeWeights
from onnxcompress.quantization.granularity import PerChannel
from onnxcompress.quantization.qparams import dequantize, quantize, symmetric_qparams
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.session import Session
from onnxcompress.search.samples import load_samples
from onnxcompress.sensitivity.analysis import analyze_sensitivity
from onnxcompress.sensitivity.precision import weight_precisions

from .models import infer, weights, write

FOUR = parse_pass("quantize-weights:bits=4,min_elements=1")


def noise_in_float64(values: np.ndarray, quantized: set[str]) -> float:
    """Noise over what varies, with some weights at 4 bits, a scale for each channel."""
    exact = weights()
    rounded = {
        name: dequantize(quantize(each, q), q)
        for name, each in exact.items()
        for q in [symmetric_qparams(each, PerChannel(1), 4)]
    }
    mixed = {name: rounded[name] if name in quantized else exact[name] for name in exact}
    reference = infer(values, exact)
    error = infer(values, mixed) - reference
    varying = reference - reference.mean(axis=0)
    return float(np.square(error).sum() / np.square(varying).sum())


def test_noise_is_that_of_the_unit_alone_and_of_all_the_others(tmp_path: Path) -> None:
    model, data = write(tmp_path, 500)
    report = analyze_sensitivity(model, [FOUR], data=str(data), samples=None)
    assert report.data.calibration_samples == 200
    assert report.samples == report.data.evaluation_samples == 100
    assert report.units[0].nodes == ("spiky",)
    everything = {unit.nodes[0] for unit in report.units}
    assert everything == {"plain", "spiky", "last"}
    measured_on = load_samples(str(data), Session(model), seed=0).choosing
    values = np.concatenate([batch.feeds["x"] for batch in measured_on.batches(1)])
    for unit in report.units:
        (damage,) = unit.damage
        # onnxruntime fuses 4-bit weights into a kernel of its own, which rounds a little more.
        alone = noise_in_float64(values, {unit.nodes[0]})
        assert damage.noise == pytest.approx(alone, rel=0.02)
        assert damage.sqnr is not None
        assert damage.sqnr == pytest.approx(-10 * np.log10(alone), abs=0.1)
        without = noise_in_float64(values, everything - {unit.nodes[0]})
        assert damage.sqnr_without == pytest.approx(-10 * np.log10(without), abs=0.1)
        assert damage.sqnr_low is not None
        assert damage.sqnr_high is not None
        assert damage.sqnr_low <= damage.sqnr <= damage.sqnr_high
    whole = noise_in_float64(values, everything)
    assert report.precisions[0].noise == pytest.approx(whole, rel=0.02)


def test_bytes_say_what_is_saved(tmp_path: Path) -> None:
    model, _ = write(tmp_path)
    report = analyze_sensitivity(model, weight_precisions((8, 4)), alone_only=True)
    spiky = next(unit for unit in report.units if unit.nodes == ("spiky",))
    eight, four = (damage.bytes for damage in spiky.damage)
    assert eight is not None
    assert four is not None
    # 1024 floats become 1 or half a byte each, with 32 scales and the nodes that restore them.
    assert -3 * 1024 < eight < -3 * 1024 + 600
    assert -3.5 * 1024 < four < -3.5 * 1024 + 600
    assert all(damage.sqnr_without is None for damage in spiky.damage)


def test_what_no_precision_changes_is_skipped_with_its_reason(tmp_path: Path) -> None:
    model, data = write(tmp_path)
    report = analyze_sensitivity(model, [QuantizeWeights()], data=str(data))
    assert [unit.nodes for unit in report.units] == [("spiky",)]
    reasons = {skip.node: skip.reason for skip in report.skipped}
    assert reasons == {
        "plain": "512 elements < min_elements=1024",
        "last": "256 elements < min_elements=1024",
    }


def test_samples_come_from_all_over_the_data_and_the_metric_from_all(tmp_path: Path) -> None:
    model, data = write(tmp_path)
    report = analyze_sensitivity(
        model, [FOUR], data=str(data), samples=4, metric="cosine", alone_only=True
    )
    assert report.samples == 4
    assert report.metric == "cosine"
    drops = [unit.damage[0].drop for unit in report.units]
    assert all(drop is not None and 0 < drop < 1 for drop in drops)
    assert drops[0] == max(drop or 0 for drop in drops)


def test_without_data_weights_are_asked_about_and_a_note_says_so(tmp_path: Path) -> None:
    model, _ = write(tmp_path)
    report = analyze_sensitivity(model)
    assert [each.name for each in report.precisions] == ["bits=8", "bits=4", "bits=2"]
    assert "samples were made up" in report.notes[0]
    with pytest.raises(DataError, match="--data"):
        analyze_sensitivity(model, [QuantizeStatic()])


@pytest.mark.parametrize("subject", ["resnet20"], indirect=True)
def test_the_stem_of_a_real_network_is_its_most_sensitive_node(subject: Path) -> None:
    """In static int8 of ResNet-20 the first convolution harms most, and the table says so."""
    report = analyze_sensitivity(
        subject / "model.onnx", data=str(subject / "calibration.npz"), alone_only=True
    )
    assert [each.name for each in report.precisions] == ["quantize-static"]
    assert report.units[0].nodes == ("/conv1/Conv",)
    assert len(report.units) == 20
    assert report.skipped == ()
