"""What is guessed is told, and what is given is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.channels.inspection import inspect_groups
from onnxcompress.data.given_shapes import given_symbols
from onnxcompress.errors import DataError
from onnxcompress.inspection import inspect_model
from onnxcompress.ir import io
from onnxcompress.runtime.made_up import make_up
from onnxcompress.runtime.session import Session
from tests.data.samples import tensor
from tests.helpers import parse
from tests.passes.support import model_of, normal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = model_of(
        "g (float[N,3,height,width] images) => (float[N,4,a,b] y) { y = Conv(images, w) }",
        w=normal(4, 3, 17, 17),
    )
    io.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_shortest_length_that_runs_is_told(path: Path) -> None:
    made_up = make_up(Session(path), 3, 0)
    assert made_up.guesses == ("input 'images': height, width guessed as 32 x 32",)
    (batch,) = made_up.data.batches(3)
    assert batch.feeds["images"].shape == (3, 3, 32, 32)


def test_given_shapes_are_not_guesses(path: Path) -> None:
    made_up = make_up(Session(path), 3, 0, {"images": (1, 3, 20, 18)})
    assert made_up.guesses == ()
    (batch,) = made_up.data.batches(3)
    assert batch.feeds["images"].shape == (3, 3, 20, 18)


def test_a_given_shape_on_which_it_does_not_run(path: Path) -> None:
    with pytest.raises(DataError, match=r"no made-up input runs.*--shapes"):
        make_up(Session(path), 1, 0, {"images": (1, 3, 4, 4)})


def test_a_symbol_means_the_same_in_all_inputs(tmp_path: Path) -> None:
    text = "g (float[N,length] x, float[N,length,2] z, float[N,?] u) => (float[N,length] y, "
    text += "float[N,length,2] v, float[N,?] w) { y = Relu(x)  v = Relu(z)  w = Relu(u) }"
    io.save(parse(text), tmp_path / "model.onnx")
    made_up = make_up(Session(tmp_path / "model.onnx"), 2, 0, {"z": (1, 7, 2)})
    feeds = next(made_up.data.batches(2)).feeds
    assert {name: each.shape for name, each in feeds.items()} == {
        "x": (2, 7),
        "z": (2, 7, 2),
        "u": (2, 16),
    }
    assert made_up.guesses == ("input 'u': axis 1 guessed as 16",)


DECODER = (
    tensor("ids", np.int64, "batch", "sequence"),
    tensor("mask", np.int64, "batch", "past + sequence"),
    tensor("past", np.float32, "batch", 2, "past", 8),
)


def test_symbols_of_a_decoder() -> None:
    shapes = {"ids": (1, 5), "past": (1, 2, 0, 8)}
    assert given_symbols(shapes, DECODER) == {"sequence": 5, "past": 0}


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({"idz": (1, 5)}, "a shape was given for 'idz'; the model's inputs are 'ids', 'mask'"),
        ({"ids": (1, 5, 2)}, r"1x5x2 given for input 'ids' has 3 axes.*\(batch, sequence\) has 2"),
        ({"past": (1, 3, 0, 8)}, "1x3x0x8 given for input 'past': axis 1 is 2 in the model"),
        ({"ids": (4, 5)}, "the first axis counts samples, so write 1 .--batch-size 4"),
        (
            {"ids": (1, 5), "past": (1, 2, 3, 8), "mask": (1, 9)},
            r"shapes disagree: 'past \+ sequence' is 9 in input 'mask', and 8 by the others",
        ),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        given_symbols(shapes, DECODER)


def test_inputs_that_disagree_about_a_symbol() -> None:
    signature = (tensor("a", np.float32, "N", "n"), tensor("b", np.float32, "N", "n"))
    with pytest.raises(DataError, match="'n' is 5 in input 'a' and 6 in input 'b'"):
        given_symbols({"a": (1, 5), "b": (1, 6)}, signature)


def test_what_memory_cannot_hold(path: Path) -> None:
    with pytest.raises(DataError, match="made-up input 'images': its arrays need"):
        make_up(Session(path), 8, 0, {"images": (1, 3, 10**6, 10**6)})


def test_inspect_counts_at_the_size_given_and_tells_a_guess(path: Path) -> None:
    guessed = inspect_model(path)
    assert guessed.macs == 16 * 16 * 4 * 3 * 17 * 17
    assert any("height, width guessed as 32 x 32; times and counts" in n for n in guessed.notes)
    given = inspect_model(path, shapes={"images": (1, 3, 116, 116)})
    assert given.macs == 100 * 100 * 4 * 3 * 17 * 17
    assert given.notes == ()
    with pytest.raises(DataError, match="axis 1 is 3 in the model"):
        inspect_model(path, shapes={"images": (1, 4, 116, 116)})


def test_groups_are_costed_at_the_size_given(path: Path) -> None:
    assert inspect_groups(path, shapes={"images": (1, 3, 18, 18)}).macs == 4 * 4 * 3 * 17 * 17
    with pytest.raises(DataError, match="the data have their own"):
        inspect_groups(path, data="data.npz", shapes={"images": (1, 3, 18, 18)})


def decoder() -> str:
    """Scores of all that was read, masked: the mask must be as long as past and sequence."""
    return """g (int64[batch, sequence] ids, int64[batch, total] attention_mask,
        float[batch, past, 4] past_key) => (float[batch, sequence, 4] y)
        <int64[1] one = {1}, int64[1] last = {-1}>
        { e = Gather(table, ids)  k = Concat<axis = 1>(past_key, e)
          m = Cast<to = 1>(attention_mask)  u = Unsqueeze(m, last)  s = Mul(k, u)
          r = ReduceSum(s, one)  y = Add(e, r) }"""


def test_a_mask_is_as_long_as_past_and_sequence() -> None:
    session = Session(io.to_bytes(model_of(decoder(), table=normal(8, 4))))
    made_up = make_up(session, 2, 0)
    assert made_up.guesses == (
        "input 'ids': sequence guessed as 16",
        "input 'attention_mask': total guessed as 32",
        "input 'past_key': past guessed as 16",
    )
    (batch,) = made_up.data.batches(2)
    assert batch.feeds["attention_mask"].shape == (2, 32)


def test_a_mask_goes_with_given_shapes() -> None:
    session = Session(io.to_bytes(model_of(decoder(), table=normal(8, 4))))
    made_up = make_up(session, 2, 0, {"ids": (1, 1), "past_key": (1, 5, 4)})
    (batch,) = made_up.data.batches(2)
    assert batch.feeds["attention_mask"].shape == (2, 6)
    assert made_up.guesses == ("input 'attention_mask': total guessed as 6",)


def test_the_first_failure_is_told() -> None:
    text = """g (float[N, length] x) => (float[N, 5] y) <int64[2] s = {1, 5}>
        { y = Reshape(x, s) }"""
    session = Session(io.to_bytes(parse(text)))
    with pytest.raises(DataError, match=r"\{1,16\}"):
        make_up(session, 1, 0)
