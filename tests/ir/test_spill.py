from __future__ import annotations

import gc
import tempfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxcompress.ir import stored
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.stored import Spill, SpilledArray
from tests.helpers import parse


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "SPILLED_BYTES", 8)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_, ml_dtypes.bfloat16])
def test_arrays_come_back_as_they_were(dtype: type[np.generic]) -> None:
    spill = Spill()
    arrays = [np.arange(start, start + 24).reshape(2, 3, 4).astype(dtype) for start in (0, 1)]
    arrays.append(arrays[0].T)
    kept = [spill.keep(array) for array in arrays]
    for array, back in zip(arrays, kept, strict=True):
        assert isinstance(back, SpilledArray)
        assert back.load().dtype == array.dtype
        np.testing.assert_array_equal(back.load(), array)


def test_small_arrays_and_text_stay_in_memory() -> None:
    small, text = np.zeros(1, np.float32), np.array(["a", "b"] * 9, object)
    assert Spill().keep(small) is small
    assert Spill().keep(text) is text


def test_a_full_disk_leaves_them_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    array = np.zeros(100)
    assert Spill().keep(array) is array


def test_the_file_lives_as_long_as_an_array() -> None:
    model = parse("g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }")
    edit = Editor(model)
    edit.set_values(model.graph.nodes[0], 1, np.full(4, 7, np.float32))
    edit.finish()
    copy = clone(model)
    del edit, model
    gc.collect()
    (constant,) = copy.constants()
    assert isinstance(constant.stored, SpilledArray)
    np.testing.assert_array_equal(constant.values, np.full(4, 7))
    file = constant.stored.spill._file
    assert file is not None
    del copy, constant
    gc.collect()
    assert file.closed
