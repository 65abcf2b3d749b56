"""The whole job on a small real model that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from onnxcompress.api_errors import own_errors
from onnxcompress.errors import OutputError
from onnxcompress.progress import Progress
from onnxcompress.report.json import write_json
from onnxcompress.report.schema import CompressReport
from onnxcompress.search.compress import compress


@own_errors
def run_demo(folder: Path, progress: Progress) -> CompressReport:
    """Compresses the digit classifier into `folder` and writes the report beside it.

    Args:
        folder: made if it is missing; gets `digits.onnx` and `report.json`.
        progress: told how it gets on.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(f"{folder}: cannot be made: {fault.strerror}") from fault
    assets = resources.files("onnxcompress.demo_assets")
    with (
        resources.as_file(assets / "digits.onnx") as model,
        resources.as_file(assets / "digits.npz") as data,
    ):
        report = compress(model, folder / "digits.onnx", data=str(data), progress=progress)
    write_json(report, folder / "report.json")
    return report
