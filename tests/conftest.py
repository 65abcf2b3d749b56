from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.subjects.__main__ import default_cache
from onnxcompress.errors import OnnxCompressError
from tests import tiny_decoder as tiny_decoder_files

if TYPE_CHECKING:
    from tests.architectures.export import Exports

SUBJECTS = default_cache(os.environ)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow what runs real or exported models, and campaigns: one marker tells all."""
    for item in items:
        models = {"exports", "subject", "tiny_decoder"} & set(getattr(item, "fixturenames", ()))
        if models or item.get_closest_marker("campaign"):
            item.add_marker("slow")


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
