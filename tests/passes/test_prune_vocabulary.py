import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import FoldConstants, PruneVocabulary, QuantizeWeights, RemoveNoOps
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import ops, outputs

from .support import Array, apply, model_of, normal, reasons, stored

ROWS, COLUMNS = 200, 24
TABLE = normal(ROWS, COLUMNS)
READ = np.array([0, 3, 7, 50, 199])
IDS = np.random.default_rng(1).choice(READ, (6, 9)).astype(np.int64)
IDS[0, :5] = READ
ALL = np.arange(ROWS, dtype=np.int64).reshape(1, ROWS)
LOOKUP = "g (int64[N, L] ids) => (float[N, L, 24] y) { [n] y = Gather(t, ids) }"


def lookup(table: Array = TABLE, text: str = LOOKUP) -> Model:
    return model_of(text, t=table)


def cosine(table: Array, row: int, among: Array) -> int:
    """Which row of `among` points most nearly as `row` does, in float64."""
    wide = table.astype(np.float64)
    angles = wide[among] @ wide[row] / np.linalg.norm(wide[among], axis=1)
    return int(among[angles.argmax()])


def test_rows_that_are_read_stay_and_others_are_read_as_the_nearest() -> None:
    model = lookup()
    report = apply(PruneVocabulary(), model, data={"ids": IDS})
    got = outputs(model, {"ids": ALL})["y"][0]
    expected = [TABLE[row if row in READ else cosine(TABLE, row, READ)] for row in range(ROWS)]
    np.testing.assert_array_equal(got, expected)
    assert report.bytes_after == len(READ) * COLUMNS * 4 + ROWS * 2
    assert ops(model) == ["Cast", "Gather", "Gather"]
    assert [tensor.name for tensor in model.graph.inputs] == ["ids"]


def test_negative_ids_count_from_the_end_as_before() -> None:
    model = lookup()
    apply(PruneVocabulary(), model, data={"ids": np.where(IDS > 10, IDS - ROWS, IDS)})
    got = outputs(model, {"ids": READ[None] - ROWS})["y"][0]
    np.testing.assert_array_equal(got, TABLE[READ])


def test_the_row_of_the_unknown_token() -> None:
    model = lookup()
    apply(PruneVocabulary(unknown=9), model, data={"ids": IDS})
    got = outputs(model, {"ids": ALL})["y"][0]
    expected = [TABLE[row if row in {*READ, 9} else 9] for row in range(ROWS)]
    np.testing.assert_array_equal(got, expected)


def test_rows_that_are_kept_anyhow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ids.txt"
    path.write_text("101\n\n 102 \n")
    passes = (PruneVocabulary(keep=(101, 102)), parse_pass(f"prune-vocabulary:keep={path}"))
    for pass_ in passes:
        model = lookup()
        apply(pass_, model, data={"ids": IDS})
        got = outputs(model, {"ids": ALL})["y"][0]
        np.testing.assert_array_equal(got[[101, 102]], TABLE[[101, 102]])
        assert stored(model)["t_1"].shape == (len(READ) + 2, COLUMNS)


def test_rows_that_are_read_too_rarely_go() -> None:
    ids = np.array([[1, 1, 1, 2, 2, 3, 1, 2]], np.int64)
    for least_count, rows in ((1, [1, 2, 3]), (2, [1, 2]), (3, [1, 2]), (4, [1])):
        model = lookup()
        apply(PruneVocabulary(least_count=least_count), model, data={"ids": ids})
        np.testing.assert_array_equal(stored(model)["t_1"], TABLE[rows])


def test_the_change_says_what_to_expect_of_new_ids() -> None:
    ids = np.array([[5, 5, 5, 2, 2, 3, 5, 2, 9, 5]], np.int64)  # 3 and 9 were read once each
    report = apply(PruneVocabulary(), lookup(), data={"ids": ids})
    told = "200 rows -> 4; 20.0% of new ids are expected to have lost theirs"
    assert told in {change.detail for change in report.changes}


def test_the_ids_may_be_cast_and_reshaped_first() -> None:
    text = """g (int32[N, L] ids) => (float[M, 24] y) {
      wide = Cast<to = 7>(ids)  flat = Reshape(wide, minus_one)  y = Gather(t, flat) }"""
    model = model_of(text, t=TABLE, minus_one=np.array([-1]))
    apply(PruneVocabulary(), model, data={"ids": IDS.astype(np.int32)})
    got = outputs(model, {"ids": READ[None].astype(np.int32)})["y"]
    np.testing.assert_array_equal(got, TABLE[READ])


def test_two_inputs_that_share_a_table_keep_what_either_reads() -> None:
    text = """g (int64[N, L] a, int64[N, L] b) => (float[N, L, 24] y) {
      c = Gather(t, a)  d = Gather(t, b)  y = Sub(c, d) }"""
    model = lookup(text=text)
    apply(PruneVocabulary(), model, data={"a": np.full_like(IDS, 8), "b": IDS})
    assert stored(model)["t_1"].shape == (6, COLUMNS)
    got = outputs(model, {"a": np.full((1, 5), 8), "b": READ[None]})["y"][0]
    np.testing.assert_array_equal(got, TABLE[8] - TABLE[READ])


def test_more_rows_than_two_bytes_number() -> None:
    table = normal(70_000, 24)
    ids = np.random.default_rng(0).permutation(70_000)[None, :66_000]
    model = lookup(table)
    report = apply(PruneVocabulary(), model, data={"ids": ids})
    assert report.bytes_after == 66_000 * 96 + 70_000 * 4
    assert ops(model) == ["Gather", "Gather"]
    got = outputs(model, {"ids": ids})["y"][0]
    np.testing.assert_array_equal(got, table[ids[0]])


@pytest.mark.parametrize(
    ("text", "weights", "reason"),
    [
        (LOOKUP.replace("(t, ids)", "<axis = 1>(t, ids)"), {}, "does not read rows of a matrix"),
        (LOOKUP, {"t": TABLE[:40]}, "960 elements < min_elements=1024"),
        (LOOKUP.replace("24] y)", "24] y, float[200, 24] t)"), {}, "a graph returns its table"),
        (
            LOOKUP.replace("L, 24] y", "L, L] y").replace(
                "y = Gather(t, ids)", "h = Gather(t, ids) tt = Transpose(t) y = MatMul(h, tt)"
            ),
            {},
            "its table is also read by Transpose",
        ),
        (
            LOOKUP.replace("(t, ids)", "(t, more)").replace("[n]", "more = Add(ids, one) [n]"),
            {"one": np.array(1)},
            "its ids are computed by Add",
        ),
        (
            LOOKUP.replace("(t, ids)", "(t, part)").replace("[n]", "part = Slice(row, a, b) [n]"),
            {"row": np.arange(9), "a": np.array([0]), "b": np.array([5])},
            "its ids are stored",
        ),
        (
            LOOKUP.replace("int64[N, L] ids", "float[N, L] ids")
            .replace("(t, ids)", "(t, i)")
            .replace("[n]", "i = Cast<to = 7>(ids) [n]"),
            {},
            "from the input 'ids', which is not of integers",
        ),
        (LOOKUP, {"t": np.where(TABLE > 2, np.nan, TABLE).astype(np.float32)}, "NaN"),
    ],
)
def test_what_is_left_alone_and_why(text: str, weights: Mapping[str, Array], reason: str) -> None:
    model = model_of(text, **{"t": TABLE, **weights})
    ids = np.minimum(IDS[:, :5], 7).astype(np.float32 if "float[N, L] ids" in text else np.int64)
    report = apply(PruneVocabulary(), model, data={"ids": ids})
    assert not report.modified
    (skip,) = report.skips
    assert re.search(reason, skip.reason)


def test_positions_that_are_given_are_no_vocabulary() -> None:
    model = lookup()
    positions = np.tile(np.arange(12), (4, 1))
    report = apply(PruneVocabulary(), model, data={"ids": positions})
    assert "as positions do" in reasons(report)["n"]


def test_a_table_of_which_most_is_read_stays() -> None:
    ids = np.random.default_rng(0).permutation(ROWS)[None, :199]
    report = apply(PruneVocabulary(), lookup(), data={"ids": ids})
    told = "199 of 200 rows are read: with a map of ids that is 19504 bytes, no less than its 19200"
    assert reasons(report) == {"n": told}


def test_a_table_of_which_nothing_is_read_often_enough_stays() -> None:
    report = apply(PruneVocabulary(least_count=1000), lookup(), data={"ids": IDS})
    assert reasons(report) == {"n": "none of its rows is read 1000 times"}


def test_an_excluded_reader_keeps_the_table_whole() -> None:
    text = """g (int64[N, L] a, int64[N, L] b) => (float[N, L, 24] y) {
      [c] c = Gather(t, a)  [d] d = Gather(t, b)  y = Sub(c, d) }"""
    pass_ = PruneVocabulary(overrides=(Override(None, ("d",)),))
    report = apply(pass_, lookup(text=text), data={"a": IDS, "b": IDS})
    assert reasons(report) == {
        "c": "its table is also read by a Gather that is left alone",
        "d": EXCLUDED,
    }


def test_a_quantized_table_is_too_late() -> None:
    model = lookup()
    apply(QuantizeWeights(min_elements=0), model)
    report = apply(PruneVocabulary(min_elements=1), model, data={"ids": IDS})
    assert not report.modified
    assert all("prune before quantizing" in reason for reason in reasons(report).values())


def test_int8_rows_of_a_cut_table() -> None:
    model = lookup()
    apply(PruneVocabulary(), model, data={"ids": IDS})
    PassManager([RemoveNoOps(), FoldConstants(), QuantizeWeights(min_elements=0)]).run(model)
    got = outputs(model, {"ids": READ[None]})["y"][0]
    np.testing.assert_allclose(got, TABLE[READ], atol=np.abs(TABLE).max() / 250)


def test_without_data_it_says_what_it_wants() -> None:
    with pytest.raises(PassError, match="need calibration data; pass --data"):
        PassManager([PruneVocabulary()]).run(lookup())


def test_ids_to_keep_that_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ids.txt"
    path.write_text("1\ntwo\n")
    for pass_, told in (
        (PruneVocabulary(keep=(200,)), "id 200 is none of the 200 rows"),
        (PruneVocabulary(unknown=-1), "id -1 is none"),
        (PruneVocabulary(keep=str(path)), "line 2 is no id"),
        (PruneVocabulary(keep=str(tmp_path / "none.txt")), "cannot be read"),
    ):
        model = lookup()
        with pytest.raises(PassError, match=told):
            apply(pass_, model, data={"ids": IDS})
        assert ops(model) == ["Gather"]


def test_options_as_a_recipe_writes_them() -> None:
    with pytest.raises(RecipeError, match="least_count must be at least 1"):
        parse_pass("prune-vocabulary:least_count=0")
    for keep in ((101, 102), "ids.txt"):
        recipe = Recipe.of([PruneVocabulary(keep=keep, unknown=100)])
        assert Recipe.parse(recipe.dump()) == recipe


@pytest.mark.parametrize("subject", ["minilm"], indirect=True)
def test_documents_of_the_data_read_the_same(subject: Path) -> None:
    model = io.load(subject / "model.onnx")
    inputs = Session(subject / "model.onnx").inputs
    data = load_dataset(str(subject / "calibration.npz"), inputs)
    (report,) = PassManager([PruneVocabulary()]).run(model, RuntimeContext(data))
    assert report.bytes_before - report.bytes_after > 40_000_000
    cut = Session(io.to_bytes(model))
    feeds = next(data.take(range(8)).batches(8)).feeds
    expected = Session(subject / "model.onnx").run(feeds)
    for name, values in cut.run(feeds).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-6)
    test = load_dataset(str(subject / "test.npz"), inputs).take(range(32))
    batch = next(test.batches(32))
    expected = Session(subject / "model.onnx").run(batch.feeds)
    for name, values in cut.run(batch.feeds).items():  # words that no sample held
        assert (values.argmax(1) == expected[name].argmax(1)).mean() >= 0.9
