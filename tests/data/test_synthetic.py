import numpy as np
import pytest

from onnxcompress.data.synthetic import synthetic_dataset
from onnxcompress.errors import DataError

from .samples import tensor


def test_a_transformers_inputs() -> None:
    signature = (
        tensor("input_ids", np.int64, "batch", "sequence"),
        tensor("attention_mask", np.int64, "batch", "sequence"),
        tensor("token_type_ids", np.int64, "batch", "sequence"),
    )
    dataset = synthetic_dataset(signature, 40, seed=0)
    assert len(dataset) == 40
    (batch,) = dataset.batches(64)
    assert {array.shape for array in batch.feeds.values()} == {(40, 16)}
    assert np.unique(batch.feeds["input_ids"]).tolist() == list(range(8))
    assert np.unique(batch.feeds["attention_mask"]).tolist() == [0, 1]
    assert np.unique(batch.feeds["token_type_ids"]).tolist() == [0, 1]
    assert (batch.feeds["attention_mask"][:, 0] == 1).all()


def test_seeded() -> None:
    signature = (tensor("x", np.float32, "N", 3),)
    prints = [synthetic_dataset(signature, 4, seed).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_symbols_mean_one_number_each_and_may_be_sums() -> None:
    signature = (
        tensor("x", np.float16, None, "past", "length"),
        tensor("mask", np.bool_, None, "past + length", "length + 1"),
    )
    dataset = synthetic_dataset(signature, 2, 0, size=5, sizes={"past": 3})
    (batch,) = dataset.batches(2)
    assert batch.feeds["x"].shape == (2, 3, 5)
    assert batch.feeds["x"].dtype == np.float16
    assert batch.feeds["mask"].shape == (2, 8, 6)
    assert batch.feeds["mask"].dtype == np.bool_


def test_a_fixed_batch_gets_as_many_samples_as_asked_for() -> None:
    dataset = synthetic_dataset((tensor("x", np.float32, 4, 2),), 6, 0)
    assert [(b.count, b.feeds["x"].shape) for b in dataset.batches(1)] == [(4, (4, 2)), (2, (4, 2))]


def test_inputs_without_a_common_batch_axis_are_whole_feeds() -> None:
    signature = (
        tensor("x", np.float32, "batch", "time"),
        tensor("state", np.float32, 2, "batch", 128),
        tensor("rate", np.int64),
    )
    batches = list(synthetic_dataset(signature, 3, 0).batches(8))
    assert [batch.whole for batch in batches] == [True] * 3
    shapes = {name: array.shape for name, array in batches[0].feeds.items()}
    assert shapes == {"x": (1, 16), "state": (2, 1, 128), "rate": ()}
    assert not np.array_equal(batches[0].feeds["x"], batches[1].feeds["x"])


def test_a_batch_symbol_on_another_axis_makes_whole_feeds() -> None:
    (batch,) = synthetic_dataset((tensor("x", np.float32, "n", "n"),), 1, 0).batches(4)
    assert batch.whole
    assert batch.feeds["x"].shape == (1, 1)


def test_text_and_what_cannot_be_made_up() -> None:
    (batch,) = synthetic_dataset((tensor("s", object, "N"),), 2, 0).batches(2)
    assert batch.feeds["s"].tolist() == ["text", "text"]
    with pytest.raises(DataError, match="input 'c' is complex64, for which no random data"):
        synthetic_dataset((tensor("c", np.complex64, "N"),), 1, 0)
    with pytest.raises(ValueError, match="at least one sample"):
        synthetic_dataset((), 0, 0)
