from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.subjects.__main__ import default_cache
from onnxcompress.errors import OnnxCompressError
from onnxcompress.measure import latency
from onnxcompress.search import judge
from tests import tiny_decoder as tiny_decoder_files

if TYPE_CHECKING:
    from tests.architectures.export import Exports

SUBJECTS = default_cache(os.environ)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow what runs real or exported models, and campaigns: one marker tells all."""
    real = {"exports", "subject", "tiny_decoder", "zoo"}
    for item in items:
        models = real.intersection(getattr(item, "fixturenames", ()))
        if models or item.get_closest_marker("campaign"):
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def _brief_timing() -> Generator[None]:
    """Models are timed for moments: no test asserts how fast one is, many wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "MIN_ROUND_SECONDS", 0.001)
        patch.setattr(judge, "LATENCY_SECONDS", 0.2)
        yield


_TOO_OLD = re.compile(r"needs onnx(runtime)? [\d.]+ or newer; this is")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """With older versions than a pass needs, and where it says so, a test is skipped."""
    try:
        return (yield)
    except OnnxCompressError as fault:
        if _TOO_OLD.search(str(fault)):
            pytest.skip(str(fault))
        raise


def fetched(name: str) -> Path:
    """The folder of a subject; the test is skipped where it was not fetched."""
    folder = SUBJECTS / name
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{name} was not fetched: python -m benchmarks.subjects fetches it")
    return folder


@pytest.fixture(params=["efficientnet-lite0", "minilm", "resnet20"])
def subject(request: pytest.FixtureRequest) -> Path:
    """The folder of a real model with real data: model.onnx, calibration.npz, test.npz."""
    return fetched(request.param)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model.onnx and data.npz of a small language model with a cache."""
    folder = tmp_path_factory.mktemp("decoder")
    tiny_decoder_files.write(folder)
    return folder


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Exports of small torch models, each made when it is first asked for."""
    from tests.architectures.export import Exports

    return Exports(tmp_path_factory.mktemp("architectures"))
