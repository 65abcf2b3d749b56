import numpy as np
import pytest

from onnxcompress.channels.groups import Group, Groups, find_groups
from onnxcompress.channels.space import connected
from onnxcompress.ir.model import Model
from onnxcompress.runtime.context import RuntimeContext
from tests.passes.support import model_of, normal

from .law import loose_slices, try_law, whole_units


def _groups(model: Model) -> Groups:
    return find_groups(model, RuntimeContext())


def _widths(group: Group) -> dict[tuple[str, int], int]:
    return {(axis.tensor.name, axis.axis): group.slots_per_unit(axis) for axis in group.axes}


def test_components_are_labelled_by_their_lowest_member() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 40, (2, 30))
    labels = connected(40, first, second)
    reached = np.eye(40, dtype=bool)
    reached[first, second] = reached[second, first] = True
    for _ in range(6):
        reached = reached @ reached
    assert labels.tolist() == [int(np.flatnonzero(row)[0]) for row in reached]


def test_a_channel_is_a_filter_its_bias_and_what_reads_it() -> None:
    model = model_of(
        "g (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y) "
        "{ [first] h = Conv(x, v, b)  r = Relu(h)  [second] y = Conv(r, w) }",
        v=normal(6, 3, 1, 1),
        b=normal(6),
        w=normal(4, 6, 1, 1),
    )
    found = _groups(model)
    (group,) = found.groups
    assert (group.name, len(group)) == ("first", 6)
    assert _widths(group) == {
        ("v", 0): 1, ("b", 0): 1, ("h", 1): 1, ("r", 1): 1, ("w", 1): 1,
    }  # fmt: skip
    assert {(each.node.name, each.channels) for each in found.skipped} == {
        ("first", 3),
        ("second", 4),
    }


def test_parts_of_a_concat_are_groups_of_their_own() -> None:
    model = model_of(
        "g (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) "
        "{ [a] h = Conv(x, u)  [b] k = Conv(x, v)  c = Concat <axis = 1> (h, k) "
        "[last] y = Conv(c, w) }",
        u=normal(4, 3, 1, 1),
        v=normal(6, 3, 1, 1),
        w=normal(2, 10, 1, 1),
    )
    assert [(each.name, len(each)) for each in _groups(model).groups] == [("a", 4), ("b", 6)]


def test_depthwise_filters_go_with_their_channel_and_groups_lose_the_same() -> None:
    model = model_of(
        "g (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) "
        "{ [a] h = Conv(x, u)  [depthwise] k = Conv <group = 8> (h, v) "
        "[grouped] m = Conv <group = 2> (k, w)  [last] y = Conv(m, z) }",
        u=normal(8, 3, 1, 1),
        v=normal(8, 1, 1, 1),
        w=normal(6, 4, 1, 1),
        z=normal(2, 6, 1, 1),
    )
    first, second = _groups(model).groups
    assert (len(first), _widths(first)["v", 0], _widths(first)["w", 1]) == (4, 2, 1)
    assert (len(second), _widths(second)["w", 0], _widths(second)["z", 1]) == (3, 2, 2)


ATTENTION = """g (float[N, S, 8] x) => (float[N, S, 8] y)
<int64[4] heads = {0, 0, 4, 2}, int64[3] rows = {0, 0, 8}> {
  [query] q0 = MatMul(x, wq)  q1 = Reshape(q0, heads)  q = Transpose <perm = [0, 2, 1, 3]> (q1)
  [key] k0 = MatMul(x, wk)  k1 = Reshape(k0, heads)  k = Transpose <perm = [0, 2, 3, 1]> (k1)
  [value] v0 = MatMul(x, wv)  v1 = Reshape(v0, heads)  v = Transpose <perm = [0, 2, 1, 3]> (v1)
  s = MatMul(q, k)  p = Softmax <axis = -1> (s)  c = MatMul(p, v)
  t = Transpose <perm = [0, 2, 1, 3]> (c)  r = Reshape(t, rows)  [out] y = MatMul(r, wo)
}"""


def test_a_head_is_its_columns_of_query_key_and_value_and_its_rows_of_the_output() -> None:
    weights = {name: normal(8, 8, seed=i) for i, name in enumerate(("wq", "wk", "wv", "wo"))}
    (group,) = _groups(model_of(ATTENTION, **weights)).groups
    widths = _widths(group)
    assert len(group) == 4
    assert [widths[name, 1] for name in ("wq", "wk", "wv")] == [2, 2, 2]
    assert widths["wo", 0] == 2 and ("wq", 0) not in widths


EINSUM = """g (float[N, S, 8] x) => (float[N, S, 8] y) {
  [query] q = Einsum <equation = "bsc,chd->bshd"> (x, wq)
  [key] k = Einsum <equation = "bsc,chd->bshd"> (x, wk)
  [value] v = Einsum <equation = "bsc,chd->bshd"> (x, wv)
  s = Einsum <equation = "bihd,bjhd->bhij"> (q, k)  p = Softmax <axis = -1> (s)
  m = Einsum <equation = "bhij,bjhd->bihd"> (p, v)
  [out] y = Einsum <equation = "bihd, hdc -> bic"> (m, wo)
}"""


def test_einsum_has_units_along_every_letter() -> None:
    """Heads; what queries and keys have in common of every head; and what values hold of it."""
    weights = {name: normal(8, 4, 2, seed=i) for i, name in enumerate(("wq", "wk", "wv"))}
    model = model_of(EINSUM, **weights, wo=normal(4, 2, 8))
    found = [(len(group), _widths(group)) for group in _groups(model).groups]
    assert [units for units, _ in found] == [4, 2, 2]
    assert {("wq", 1), ("wk", 1), ("wv", 1), ("wo", 0)} <= found[0][1].keys()
    assert {("wq", 2), ("wk", 2)} <= found[1][1].keys()
    assert {("wv", 2), ("wo", 1)} <= found[2][1].keys()
    feeds = [{"x": normal(*shape)} for shape in ((1, 3, 8), (2, 5, 8))]
    for seed in range(2):
        for mask in (whole_units, loose_slices):
            outcome = try_law(model, feeds, seed=seed, mask=mask)
            assert outcome.holds and outcome.effect > 1e-3, outcome


def test_an_einsum_that_is_no_plain_product_is_left_alone() -> None:
    model = model_of(
        "g (float[2, 4, 4] x) => (float[2, 4] y) { [first] h = MatMul(x, v)"
        ' y = Einsum <equation = "bii->bi"> (h) }',
        v=normal(4, 4),
    )
    found = _groups(model)
    assert not found.groups
    assert any("repeats an axis" in each.reason for each in found.skipped)


SHUFFLE = """g (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y)
<int64[5] apart = {0, 2, 4, 4, 4}, int64[4] together = {0, 8, 4, 4}> {
  [first] h = Conv(x, v)  a = Reshape(h, apart)  t = Transpose <perm = [0, 2, 1, 3, 4]> (a)
  m = Reshape(t, together)  [grouped] k = Conv <group = 2> (m, w)  [last] y = Conv(k, z)
}"""


def test_a_channel_shuffle_divides_and_merges_alike() -> None:
    model = model_of(SHUFFLE, v=normal(8, 3, 1, 1), w=normal(6, 4, 1, 1), z=normal(2, 6, 1, 1))
    groups = {each.name: each for each in _groups(model).groups}
    assert (len(groups["first"]), _widths(groups["first"])["v", 0]) == (2, 4)


def test_recurrent_units_take_a_row_of_each_gate() -> None:
    model = model_of(
        "g (float[5, 1, 3] x) => (float[5, 1, 2] y) <int64[1] axes = {1}> {"
        " [lstm] h = LSTM <hidden_size = 4> (x, w, r, b)  f = Squeeze(h, axes)"
        " [last] y = MatMul(f, z) }",
        w=normal(1, 16, 3),
        r=normal(1, 16, 4),
        b=normal(1, 32),
        z=normal(4, 2),
    )
    (group,) = _groups(model).groups
    widths = _widths(group)
    assert len(group) == 4
    assert (widths["w", 1], widths["r", 1], widths["r", 2], widths["b", 1]) == (4, 4, 1, 8)
    assert widths["z", 0] == 1


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("n = LayerNormalization <axis = -1> (h, s)  y = MatMul(n, w)", "takes statistics over it"),
        ("n = Softmax <axis = -1> (h)  y = MatMul(n, w)", "takes statistics over it"),
        ("n = TopK <axis = 0> (h, k)  y = MatMul(h, w)", "is not followed"),
        ("m = MatMul(h, w)  d = Size(h)  f = Cast <to = 1> (d)  y = Add(m, f)", "is not followed"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_says_why(tail: str, reason: str) -> None:
    tail = tail.replace("n = TopK", "n, i = TopK")
    model = model_of(
        f"g (float[4, 4] x) => (float[4, 4] y) {{ [first] h = MatMul(x, v)  {tail} }}",
        v=normal(4, 4),
        w=normal(4, 4),
        s=normal(4),
        k=np.array([2], np.int64),
    )
    found = _groups(model)
    assert not found.groups
    assert any(reason in each.reason for each in found.skipped if each.node.name == "first")


def test_what_only_goes_together_is_told() -> None:
    model = model_of(
        "g (float[4, 4] x) => (float[4, 2] y) { [first] h = MatMul(x, v)"
        "  r = MatMul(h, w)  s = Add(h, r)  [last] y = MatMul(s, z) }",
        v=normal(4, 4),
        w=normal(4, 4),
        z=normal(4, 2),
    )
    (group,) = _groups(model).groups  # a weight that maps channels to themselves is no obstacle
    assert len(group) == 4 and _widths(group)["w", 0] == _widths(group)["w", 1] == 1
    tied = model_of(
        "g (float[4, 4] x) => (float[4, 2] y) { [first] h = MatMul(x, v)"
        "  a, b = Split <axis = 1, num_outputs = 2> (h)  c = Concat <axis = 1> (b, a)"
        "  s = Add(h, c)  [last] y = MatMul(s, z) }",
        v=normal(4, 2),
        z=normal(2, 2),
    )
    found = _groups(tied)
    assert not found.groups
    assert ("first", "they can only go all together") in {
        (each.node.name, each.reason) for each in found.skipped
    }


STANDARDIZED = """g (float[N, 3, 1, 1] x) => (float[N, 2, 1, 1] y) {
  [first] h = Conv(x, v)  n, m2, v2 = BatchNormalization <training_mode = 1> (w, s, b, m, t)
  k = Reshape(n, shape)  [last] y = Conv(h, k) }"""


def test_inputs_of_a_weight_that_is_standardized_as_it_runs_stay() -> None:
    model = model_of(
        STANDARDIZED,
        v=normal(6, 3, 1, 1),
        w=normal(1, 2, 6),
        s=np.ones(2, np.float32),
        b=normal(2),
        m=normal(2),
        t=np.ones(2, np.float32),
        shape=np.array([2, 6, 1, 1], np.int64),
    )
    found = _groups(model)
    assert not found.groups
    assert any("takes statistics over it" in each.reason for each in found.skipped)
