import re
from collections.abc import Callable

import numpy as np
import pytest

from onnxcompress.channels.costs import Measure
from onnxcompress.channels.selection import Scope
from onnxcompress.errors import PassError
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneChannels, StripPruned
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext

from .support import Array, apply, model_of, normal, reasons, stored_input

IMAGE = {"x": normal(4, 3, 6, 6)}


def _chain(width: int = 8, **weights: Array) -> Model:
    """Two groups of `width` channels: those of `first` and those of `second`."""
    given = {
        "u": normal(width, 3, 3, 3),
        "b": normal(width, seed=1),
        "v": normal(width, width, 3, 3, seed=2),
        "w": normal(2, width, 1, 1, seed=3),
    }
    return model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 2, a, c] y) {"
        " [first] h = Conv(x, u, b)  r = Relu(h)  [second] k = Conv(r, v)  s = Relu(k)"
        " [third] y = Conv(s, w) }",
        **{**given, **weights},
    )


def _dead(values: Array, axis: int = 0) -> list[int]:
    others = tuple(each for each in range(values.ndim) if each != axis)
    return np.flatnonzero(~values.any(axis=others)).tolist()


def test_the_least_units_lose_what_makes_them_and_what_reads_them() -> None:
    model = _chain()
    u, b, v, w = (stored_input(model, *at) for at in _PLACES)
    by_hand = [
        np.square(u).sum(axis=(1, 2, 3)) + np.square(v).sum(axis=(0, 2, 3)),
        np.square(v).sum(axis=(1, 2, 3)) + np.square(w).sum(axis=(0, 2, 3)),
    ]
    apply(PruneChannels(amount=0.5, multiple=1), model)
    gone = [sorted(np.argsort(scores)[:4].tolist()) for scores in by_hand]
    u, b, v, w = (stored_input(model, *at) for at in _PLACES)
    assert [_dead(u), _dead(b), _dead(v, 1)] == [gone[0]] * 3
    assert [_dead(v), _dead(w, 1)] == [gone[1]] * 2


_PLACES = (("first", 1), ("first", 2), ("second", 1), ("third", 1))


def test_widths_stay_multiples() -> None:
    model = _chain(24)
    report = apply(PruneChannels(amount=0.5, multiple=8), model)
    assert len(_dead(stored_input(model, "first", 1))) == 8  # 12 would leave 12
    assert report.modified


@pytest.mark.parametrize(
    ("width", "multiple", "amount", "gone"),
    [(16, 16, 0.3, 4), (16, 8, 0.3, 4), (12, 8, 0.3, 2), (8, 8, 0.3, 2), (6, 8, 0.3, 1)],
)
def test_rounding_a_width_never_rounds_to_nothing(
    width: int, multiple: int, amount: float, gone: int
) -> None:
    model = _chain(width)
    apply(PruneChannels(amount=amount, multiple=multiple), model)
    assert [len(_dead(stored_input(model, name, 1))) for name in ("first", "second")] == [gone] * 2
    options = PruneChannels(amount=amount, multiple=multiple, scope=Scope.GLOBAL)
    assert apply(options, _chain(width)).modified


WINDOW = """g (float[N, 16, 96] x) => (float[N, 16, 10] y)
<int64[4] heads = {0, 0, 12, 8}, int64[3] rows = {0, 0, 96}> {
  [query] q0 = MatMul(x, wq)  q1 = Reshape(q0, heads)  q = Transpose <perm = [0, 2, 1, 3]> (q1)
  [key] k0 = MatMul(x, wk)  k1 = Reshape(k0, heads)  k = Transpose <perm = [0, 2, 3, 1]> (k1)
  [value] v0 = MatMul(x, wv)  v1 = Reshape(v0, heads)  v = Transpose <perm = [0, 2, 1, 3]> (v1)
  s = MatMul(q, k)  b = Add(s, biases)  p = Softmax <axis = -1> (b)  c = MatMul(p, v)
  t = Transpose <perm = [0, 2, 1, 3]> (c)  r = Reshape(t, rows)  [out] y = MatMul(r, wo)
}"""


def test_a_table_of_biases_by_head_does_not_make_steps_of_eight_heads() -> None:
    weights = {name: normal(96, 96, seed=i) for i, name in enumerate(("wq", "wk", "wv"))}
    model = model_of(WINDOW, **weights, wo=normal(96, 10), biases=normal(1, 12, 16, 16))
    apply(PruneChannels(amount=0.3), model)
    assert len(_dead(stored_input(model, "out", 1))) == 3 * 8


@pytest.mark.parametrize(("groups", "each"), [(5, 8), (13, 8), (4, 16)])
def test_a_convolution_in_groups_loses_channels_of_each(groups: int, each: int) -> None:
    width = groups * each
    model = model_of(
        f"g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) {{ [first] h = Conv(x, u)  r = Relu(h)"
        f" [second] k = Conv <group = {groups}> (r, v)  s = Relu(k)  [third] y = Conv(s, w) }}",
        u=normal(width, 3, 1, 1),
        v=normal(width, each, 1, 1, seed=1),
        w=normal(2, width, 1, 1, seed=2),
    )
    apply(PruneChannels(amount=0.3), model)
    gone = groups * each // 4
    assert len(_dead(stored_input(model, "first", 1))) == gone
    assert len(_dead(stored_input(model, "third", 1), 1)) == gone


RESIDUAL = """g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) {
  [first] h = Conv(x, u)  r = Relu(h)  [inner] i = Conv(r, a)  j = Relu(i)  [branch] k = Conv(j, b)
  s = Add(h, k)  t = Relu(s)  [last] y = Conv(t, w) }"""


def _residual(inner: int) -> Model:
    """A stream 32 wide past one block; only the block is no part of it."""
    return model_of(
        RESIDUAL,
        u=normal(32, 3, 3, 3),
        a=normal(inner, 32, 1, 1, seed=1),
        b=normal(32, inner, 1, 1, seed=2),
        w=normal(2, 32, 3, 3, seed=3),
    )


@pytest.mark.parametrize(
    ("inner", "streams", "cut"),
    [(64, None, False), (16, None, True), (16, False, False)],
)
def test_streams_are_cut_where_that_is_what_is_worth_it(
    inner: int, streams: bool | None, cut: bool
) -> None:
    model = _residual(inner)
    options = PruneChannels(amount=0.3, target=Measure.MACS, streams=streams)
    apply(options, model)
    assert bool(_dead(stored_input(model, "first", 1))) == cut
    assert _dead(stored_input(model, "inner", 1))


def test_less_than_a_unit_is_nothing_and_is_told() -> None:
    report = apply(PruneChannels(amount=0.1), _chain(8))
    assert not report.modified
    assert "amount=0.1 is less than one of its 8 units" in reasons(report).values()


@pytest.mark.parametrize("target", [Measure.MACS, Measure.PARAMETERS, Measure.BYTES])
@pytest.mark.parametrize("scope", Scope)
def test_a_target_is_met_and_not_much_exceeded(target: Measure, scope: Scope) -> None:
    model = _chain(32)
    before = _cost(model, target)
    options = PruneChannels(amount=0.4, target=target, scope=scope, multiple=1)
    PassManager([options, StripPruned()]).run(model)
    assert 0.55 * before < _cost(model, target) <= 0.6 * before


def _cost(model: Model, target: Measure) -> int:
    sizes = [stored_input(model, *at).shape for at in _PLACES if at[1] == 1]
    if target is Measure.MACS:
        positions = (16, 4, 4)
        return sum(p * int(np.prod(size)) for p, size in zip(positions, sizes, strict=True))
    return (4 if target is Measure.BYTES else 1) * model.parameters


class _Watch(RuntimeContext):
    """Takes for measured time what is wanted of it, so that no test hangs on a clock."""

    def __init__(self, of: Callable[[Model], float]):
        super().__init__()
        self.of = of
        self.times: list[float] = []

    def time_ratio(self, model: Model, other: Model) -> float:
        self.times.append(self.of(model) / self.of(other))
        return self.times[-1]


def _macs(model: Model) -> float:
    return _cost(model, Measure.MACS)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("amount", [0.25, 0.5])
def test_measured_time_is_a_target(scope: Scope, amount: float) -> None:
    model = _chain(32)
    before, context = _macs(model), _Watch(_macs)
    options = PruneChannels(amount=amount, target=Measure.LATENCY, scope=scope, multiple=1)
    report, _ = PassManager([options, StripPruned()]).run(model, context)
    left = _macs(model) / before
    assert 1 - amount - 0.05 < left <= 1 - amount
    assert left in context.times
    assert len(context.times) <= 7  # of 62 chunks
    told = {change.detail for change in report.changes if change.op == "graph"}
    assert told == {f"latency x {left:.3f} once it is stripped"}


def test_time_in_rounds_is_a_share_of_the_time_before_them() -> None:
    context = _Watch(_macs)
    model = _chain(32)
    before = _macs(model)
    for share in (0.5, 1.0):
        options = PruneChannels(amount=0.4, target=Measure.LATENCY, multiple=1).scaled(share)
        PassManager([options]).run(model, context)
    PassManager([StripPruned()]).run(model, context)
    assert 0.55 < _macs(model) / before <= 0.6


def test_time_that_cutting_does_not_save_is_told() -> None:
    options = PruneChannels(amount=0.3, target=Measure.LATENCY, multiple=4)
    context = _Watch(lambda model: 0.9 if _widths(model) else 1.0)
    (report,) = PassManager([options]).run(_chain(), context)
    told = "amount=0.3 of the latency is more than can go (0.10), which went"
    assert told in [each.detail.partition("; ")[2] for each in report.changes]


def test_what_can_go_goes_where_more_was_asked_for() -> None:
    model = _chain()
    before = _macs(model)
    options = PruneChannels(amount=0.95, target=Measure.MACS, multiple=4)
    report, _ = PassManager([options, StripPruned()]).run(model)
    assert [stored_input(model, *at).shape[0] for at in (("first", 1), ("second", 1))] == [1, 1]
    share = 1 - _macs(model) / before
    told = f"amount=0.95 of the macs is more than can go ({share:.2f}), which went"
    assert told in [each.detail.partition("; ")[2] for each in report.changes]


def _widths(model: Model) -> bool:
    return stored_input(model, "first", 1).shape[0] < 8


def test_random_is_seeded_and_differs_by_seed() -> None:
    gone = []
    for seed in (0, 0, 1):
        model = _chain(32)
        apply(PruneChannels(criterion=Criterion.RANDOM, seed=seed, multiple=1), model)
        gone.append(_dead(stored_input(model, "first", 1)))
    assert gone[0] == gone[1] != gone[2]


def test_second_order_keeps_what_no_other_channel_makes_up_for() -> None:
    """Channel 0 is the largest, but a copy of it exists; the small ones are on their own."""
    u = normal(4, 3, 3, 3) * np.array([3, 3, 1, 1], np.float32)[:, None, None, None]
    u[1] = u[0]
    v = normal(4, 4, 3, 3, seed=2)
    model = _chain(4, u=u, b=np.ones(4, np.float32), v=v, w=normal(2, 4, 1, 1, seed=3))
    data = {"x": normal(64, 3, 6, 6, seed=9)}
    apply(
        PruneChannels(criterion=Criterion.SECOND_ORDER, amount=0.25, multiple=1), model, data=data
    )
    assert _dead(stored_input(model, "first", 1)) in ([0], [1])
    model = _chain(4, u=u, b=np.ones(4, np.float32), v=v, w=normal(2, 4, 1, 1, seed=3))
    apply(PruneChannels(criterion=Criterion.L2, amount=0.25, multiple=1), model)
    assert _dead(stored_input(model, "first", 1)) in ([2], [3])


def test_batchnorm_scales_judge_where_there_are_any() -> None:
    scale = np.array([0.5, -0.1, 2.0, 0.3], np.float32)
    model = model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) {"
        " [first] h = Conv(x, u)  [norm] n = BatchNormalization(h, s, b, m, v)  r = Relu(n)"
        " [second] k = Conv(r, w)  t = Relu(k)  [third] y = Conv(t, z) }",
        u=normal(4, 3, 1, 1),
        s=scale,
        b=normal(4),
        m=normal(4),
        v=np.ones(4, np.float32),
        w=normal(5, 4, 1, 1),
        z=normal(2, 5, 1, 1),
    )
    report = apply(PruneChannels(criterion=Criterion.BATCHNORM, amount=0.5, multiple=1), model)
    assert _dead(stored_input(model, "first", 1)) == [1, 3]
    assert _dead(stored_input(model, "norm", 1)) == _dead(stored_input(model, "norm", 2)) == [1, 3]
    assert reasons(report)["second"] == "it passes no BatchNormalization"


@pytest.mark.parametrize(
    ("criterion", "gone"),
    [(Criterion.ACTIVATION_MEAN, [0, 2]), (Criterion.NONZERO_FRACTION, [1, 3])],
)
def test_activations_judge_by_their_mean_or_by_how_often_there_are_any(
    criterion: Criterion, gone: list[int]
) -> None:
    """Channels 0 and 2 are small and never zero, 1 and 3 are large and mostly zero."""
    u = np.zeros((4, 3, 3, 3), np.float32)
    u[[1, 3], 0, 1, 1] = 9, 8
    bias = np.array([0.1, -9, 0.2, -9], np.float32)
    model = _chain(4, u=u, b=bias, v=normal(4, 4, 3, 3), w=normal(2, 4, 1, 1))
    options = PruneChannels(criterion=criterion, amount=0.5, multiple=1)
    report = apply(options, model, data={"x": np.abs(normal(16, 3, 6, 6))})
    assert report.modified
    assert _dead(stored_input(model, "first", 2)) == gone


def test_geometric_median_takes_what_lies_in_the_middle() -> None:
    u = normal(5, 3, 3, 3)
    u[3] = u[[0, 1, 2, 4]].mean(axis=0)
    model = _chain(5, u=u, b=np.ones(5, np.float32), v=normal(5, 5, 3, 3), w=normal(2, 5, 1, 1))
    apply(PruneChannels(criterion=Criterion.GEOMETRIC_MEDIAN, amount=0.2, multiple=1), model)
    assert _dead(stored_input(model, "first", 1)) == [3]


def test_an_excluded_node_keeps_its_group() -> None:
    model = _chain()
    options = PruneChannels(multiple=1, overrides=(Override(None, nodes=("third",)),))
    report = apply(options, model)
    assert reasons(report)["second"] == EXCLUDED
    assert not _dead(stored_input(model, "third", 1), 1) and _dead(stored_input(model, "first", 1))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (PruneChannels(amount=0.0), "amount=0.0 is no share between 0 and 1"),
        (PruneChannels(multiple=0), "multiple=0 is less than 1"),
        (PruneChannels(criterion=Criterion.THRESHOLD), "criterion=threshold is for prune-weights"),
        (PruneChannels(criterion=Criterion.GIVEN), "needs importances=FILE.npz"),
        (PruneChannels(criterion=Criterion.SECOND_ORDER), "need calibration data"),
    ],
)
def test_what_cannot_be_done_says_why(options: PruneChannels, fault: str) -> None:
    with pytest.raises(PassError, match=re.escape(fault)):
        PassManager([options]).run(_chain())


@pytest.mark.parametrize("target", [Measure.MACS, Measure.PARAMETERS, Measure.BYTES])
def test_of_a_model_without_products_nothing_can_go(target: Measure) -> None:
    model = model_of("g (float[N, 8] x) => (float[N, 8] y) { y = Mul(x, s) }", s=normal(8))
    told = f"amount=0.3 of the {target.value} is more than can go (0.00): it has no channels"
    with pytest.raises(PassError, match=re.escape(told)):
        PassManager([PruneChannels(amount=0.3, target=target)]).run(model)


def test_where_nothing_can_go_the_main_reason_is_told() -> None:
    model = model_of(
        "g (float[N, 8] x) => (float[N, 8] y) { [first] h = MatMul(x, v)"
        "  [soft] s = Softmax <axis = -1> (h)  [last] y = MatMul(s, w) }",
        v=normal(8, 12),
        w=normal(12, 8),
    )
    told = "(0.00): 12 channels of 'first' stay, for Softmax 'soft' takes statistics over it"
    with pytest.raises(PassError, match=re.escape(told)):
        PassManager([PruneChannels(target=Measure.MACS)]).run(model)
