from importlib import resources
from pathlib import Path

import pytest
from rich.console import Console

import onnxcompress
from onnxcompress.inspection import inspect_model
from onnxcompress.ir import io
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.report.schema import DataReport
from onnxcompress.report.terminal import compress_report, data_line, inspect_report
from tests.helpers import parse


@pytest.mark.parametrize(("count", "hidden"), [(8, None), (11, "and 3 more")])
def test_of_many_inputs_the_first_are_shown(count: int, hidden: str | None, tmp_path: Path) -> None:
    inputs = ", ".join(f"float[2] x{index}" for index in range(count))
    names = ", ".join(f"x{index}" for index in range(count))
    path = tmp_path / "model.onnx"
    io.save(parse(f"g ({inputs}) => (float[2] y) {{ y = Sum({names}) }}"), path)
    console = Console(width=100, record=True, file=(tmp_path / "shown").open("w"))
    console.print(inspect_report(inspect_model(path)))
    shown = console.export_text()
    console.file.close()
    assert shown.count(": float32 [2]") == 8 + 1
    assert ("x7: float32 [2]" in shown) and ("x8: float32 [2]" not in shown)
    assert ("more" in shown) is (hidden is not None)
    assert hidden is None or hidden in shown


@pytest.mark.slow
def test_what_training_did_is_told(tmp_path: Path) -> None:
    assets = Path(str(resources.files("onnxcompress.demo_assets")))
    recipe = Recipe.of(map(parse_pass, ["prune-channels:amount=0.5", "fine-tune:steps=4"]))
    report = onnxcompress.compress(
        assets / "digits.onnx",
        tmp_path / "small.onnx",
        data=str(assets / "digits.npz"),
        recipe=recipe,
    )
    console = Console(width=200, record=True, file=(tmp_path / "shown").open("w"))
    console.print(compress_report(report))
    console.file.close()
    details = [each.detail for each in report.candidates[0].passes[1].changes]
    assert "loss on held-out samples" in details[0]
    assert details[0] in console.export_text()


@pytest.mark.parametrize(
    ("source", "given", "told"),
    [
        (None, {"calibration_samples": 0}, "Judged on 60 labelled samples that were made up"),
        ("d.npz", {}, "Judged on 60 labelled samples from d.npz; calibrated on 20 others"),
        ("d.npz", {"calibration_samples": 0}, "Judged on 60 labelled samples from d.npz"),
        (
            "d.npz",
            {"validation_samples": 9, "training_samples": 500},
            "Judged on 60 labelled samples from d.npz; chosen by 9; fitted to 500, calibrated on "
            "20 of these",
        ),
    ],
)
def test_what_the_numbers_stand_on_is_told(
    source: str | None, given: dict[str, int], told: str
) -> None:
    samples = {"calibration_samples": 20, "evaluation_samples": 60, **given}
    report = DataReport(source=source, labelled=True, caveat=None, **samples)
    assert data_line(report).plain == told
