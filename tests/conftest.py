from pathlib import Path

import pytest

SUBJECTS = Path(__file__).parents[1] / ".cache" / "subjects"


@pytest.fixture(params=["efficientnet-lite0", "minilm", "resnet20"])
def subject(request: pytest.FixtureRequest) -> Path:
    """The folder of a real model with real data: model.onnx, calibration.npz, test.npz."""
    folder = SUBJECTS / request.param
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{request.param} was not fetched: python -m benchmarks.subjects fetches it")
    return folder
