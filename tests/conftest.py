import os
from pathlib import Path

import pytest

from benchmarks.subjects.__main__ import default_cache

SUBJECTS = default_cache(os.environ)


@pytest.fixture(params=["efficientnet-lite0", "minilm", "resnet20"])
def subject(request: pytest.FixtureRequest) -> Path:
    """The folder of a real model with real data: model.onnx, calibration.npz, test.npz."""
    folder = SUBJECTS / request.param
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{request.param} was not fetched: python -m benchmarks.subjects fetches it")
    return folder
