import sys
from collections.abc import Sequence

import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.measure.edit_distance import cer_tally, edit_drop, edit_value, wer_tally
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(8)


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def _edits(left: Sequence[object], right: Sequence[object]) -> int:
    """By the recurrence."""
    row = list(range(len(right) + 1))
    for i, ours in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, theirs in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (ours != theirs))
    return row[-1]


def _texts() -> list[str]:
    letters = list("abü  \U0001f600")
    return ["".join(RNG.choice(letters, RNG.integers(0, 20))) for _ in range(40)]


def test_texts() -> None:
    ours, theirs = _texts(), _texts()
    weights = np.stack([np.ones(40, dtype=np.int64), RNG.integers(0, 3, 40)])
    for tally, split in ((cer_tally, list), (wer_tally, str.split)):
        pairs = [(split(a), split(b)) for a, b in zip(ours, theirs, strict=True)]
        rows = np.array([(_edits(a, b), len(b)) for a, b in pairs])
        np.testing.assert_array_equal(tally(ours, theirs).sums(weights), weights @ rows)
        sums = _once(tally(ours, theirs))
        assert edit_value(sums) == rows[:, 0].sum() / rows[:, 1].sum()
        assert edit_drop(sums, _once(tally(theirs, theirs))) == edit_value(sums)


def test_token_ids() -> None:
    ours = [RNG.integers(0, 4, RNG.integers(0, 12)) for _ in range(30)]
    theirs = [RNG.integers(0, 4, RNG.integers(0, 12)) for _ in range(30)]
    rows = [(_edits(a.tolist(), b.tolist()), len(b)) for a, b in zip(ours, theirs, strict=True)]
    padded = np.full((30, 15), -100)
    for row, ids in zip(padded, theirs, strict=True):
        row[: len(ids)] = ids
    for tally in (cer_tally, wer_tally):
        for target in (theirs, padded):
            np.testing.assert_array_equal(_once(tally(ours, target)), [np.sum(rows, axis=0)])


def test_texts_in_arrays() -> None:
    texts = getattr(np.dtypes, "StringDType", None)  # since numpy 2
    for dtype in (object, np.str_, *([texts()] if texts else [])):
        labels = np.array(["ab c", "d"], dtype=dtype)
        assert _once(cer_tally(labels, ["ab d", ""])).tolist() == [[2, 4]]
        assert _once(wer_tally(labels[:, None], ["ab d", ""])).tolist() == [[2, 2]]
    assert _once(cer_tally(np.array([b"\xc3\xbc"]), ["ü"])).tolist() == [[0, 1]]


def test_nothing_to_write() -> None:
    assert edit_value(_once(cer_tally(["", ""], ["", ""]))) == 0
    some = _once(cer_tally(["a", ""], ["", ""]))
    assert edit_value(some) == np.inf
    assert edit_drop(some, some) == 0
    assert edit_drop(some, _once(cer_tally(["", ""], ["", ""]))) == np.inf
    assert edit_value(_once(cer_tally(["", ""], ["abc", ""]))) == 1
    assert edit_value(_once(cer_tally([np.array([], dtype=int)], [np.array([1, 2])]))) == 1


def test_text_against_ids() -> None:
    with pytest.raises(DataError, match="one of output and labels is text"):
        cer_tally(["abc"], [np.array([1])])
    with pytest.raises(DataError, match="token ids are float64"):
        cer_tally([np.zeros(2)], [np.array([1])])
    with pytest.raises(DataError, match="outputs for 1 samples and 2"):
        cer_tally(["a"], ["a", "b"])


def test_without_rapidfuzz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(DataError, match="need rapidfuzz; pip install rapidfuzz"):
        cer_tally(["a"], ["a"])
