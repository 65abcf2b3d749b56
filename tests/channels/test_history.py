"""The dependency groups know what an operator meant in the operator set of the model."""

import itertools
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import onnx
import pytest
from onnx import defs

from onnxcompress.channels.groups import find_groups
from onnxcompress.channels.history import FIRST, LATEST, is_followed, normalized_axes
from onnxcompress.channels.table import RESHAPING, SHAPE_ONLY, TIES
from onnxcompress.ir.model import Node
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import StripPruned
from onnxcompress.runtime.context import RuntimeContext
from tests.passes.support import apply_exact, model_of, normal, opset, stored_input

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

HANDLED = {
    ("Softmax", 13): "normalized_axes",
    ("LogSoftmax", 13): "normalized_axes",
    ("Hardmax", 13): "normalized_axes",
    ("BatchNormalization", 9): "spatial: not followed where numbers are for each place",
    ("BatchNormalization", 14): "emission: trained where it has more outputs, or says so",
    ("Dropout", 12): "emission: the input training_mode",
    ("Clip", 11): "emission: limits are attributes or inputs",
    ("Slice", 10): "numbers.windows: bounds are attributes or inputs",
    ("Pad", 11): "movement.pads: amounts are an attribute or an input",
    ("Pad", 18): "movement.pads: axes",
    ("Split", 13): "cut: sizes are an attribute or an input; ties go by lengths",
    ("Split", 18): "cut: num_outputs goes",
    ("Resize", 11): "shape_source: sizes are its fourth input; before it has two",
    ("Resize", 18): "tie_positions: axes",
    ("Shape", 15): "shape_source and numbers: start, end",
    ("QuantizeLinear", 13): "tie_quantization: axis, of vectors alone, which came with it",
    ("DequantizeLinear", 13): "as QuantizeLinear",
    ("QuantizeLinear", 21): "tie_quantization: block_size",
    ("DequantizeLinear", 21): "as QuantizeLinear",
    ("DepthToSpace", 11): "mode, by default what it did before",
    ("SpaceToDepth", 28): "mode, by default what it did before",
    ("GroupNormalization", 21): "tie_group_norm: one number a channel or a group, by length",
    ("ReduceSum", 13): "movement._reduced: axes are an attribute or an input",
    **{(f"Reduce{kind}", 18): "as ReduceSum" for kind in _REDUCTIONS},
    ("Reshape", 14): "ties go by lengths; numbers: allowzero",
    **dict.fromkeys((("Squeeze", 13), ("Unsqueeze", 13)), "ties go by lengths"),
    **dict.fromkeys((("LSTM", 14), ("GRU", 14), ("RNN", 14)), "layout: the last axis stays so"),
    **dict.fromkeys(((op, 8) for op in ("Max", "Mean", "Min", "Sum")), "could not broadcast"),
}
"""What changed the meaning of an operator that is followed, and who knows of it."""

NOT_OURS = {
    *(("AveragePool", version) for version in (7, 10, 19)),
    *(("MaxPool", version) for version in (8, 10)),
    *(("LpPool", version) for version in (2, 18)),
    ("GlobalLpPool", 2),
    ("ArgMax", 12), ("ArgMin", 12),
    ("Cast", 6), ("Cast", 19), ("Cast", 24), ("CastLike", 19), ("CastLike", 24),
    ("QuantizeLinear", 19), ("QuantizeLinear", 23), ("DequantizeLinear", 23),
    ("Gemm", 11),
    ("GRU", 3),
    ("Resize", 13),
    ("Upsample", 9), ("Upsample", 10),
    *((op, 6) for op in (
        "Abs", "Ceil", "Clip", "Elu", "Exp", "Floor", "HardSigmoid", "InstanceNormalization",
        "LeakyRelu", "Log", "Max", "Mean", "Min", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid",
        "Sqrt", "Sum", "Tanh",
    )),
}  # fmt: skip
"""Changes of what is in a window, of rounding, types and names, which no rule looks at."""


def _followed() -> list[str]:
    return sorted({*TIES, *RESHAPING, *SHAPE_ONLY})


def _history() -> dict[str, list[defs.OpSchema]]:
    found: dict[str, list[defs.OpSchema]] = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            found[schema.name].append(schema)
    return {op: sorted(each, key=lambda one: one.since_version) for op, each in found.items()}


def _form(schema: defs.OpSchema) -> object:
    """All of an operator but element types and words."""

    def options(all_: Iterable[defs.OpSchema.FormalParameter]) -> list[str]:
        return [str(each.option) for each in all_]

    attributes = {
        name: (str(each.type), each.required, str(each.default_value))
        for name, each in schema.attributes.items()
    }
    return attributes, options(schema.inputs), options(schema.outputs), schema.deprecated


@pytest.mark.parametrize("op", _followed())
def test_every_version_of_an_operator_is_the_same_or_known_to_differ(op: str) -> None:
    versions = _history().get(op, [])
    for before, after in itertools.pairwise(versions):
        key = op, after.since_version
        assert after.since_version <= LATEST, "hold the rules against the new operator set"
        if after.since_version <= FIRST.get(op, 1):
            continue
        assert (_form(before) == _form(after)) or key in HANDLED or key in NOT_OURS, key


def test_what_is_declared_is_there() -> None:
    there = {(op, each.since_version) for op, all_ in _history().items() for each in all_}
    declared = {*HANDLED, *NOT_OURS, *((op, first) for op, first in FIRST.items())}
    known = defs.onnx_opset_version()  # the installed onnx may be older than the rules
    assert {(op, since) for op, since in declared if since <= known} <= there
    assert {op for op, _ in [*HANDLED, *NOT_OURS]} | set(FIRST) <= set(_followed())
    assert not set(HANDLED) & NOT_OURS


@pytest.mark.parametrize("op", sorted(FIRST))
def test_what_meant_something_else_is_not_followed(op: str) -> None:
    assert not is_followed(Node(op), FIRST[op] - 1)
    assert is_followed(Node(op), FIRST[op])


def test_axes_that_are_normalized_over() -> None:
    def axes(op: str, version: int, axis: int | None = None) -> list[int]:
        attrs = {} if axis is None else {"axis": onnx.helper.make_attribute("axis", axis)}
        return list(normalized_axes(Node(op, attrs=attrs), None, 4, version))

    assert axes("Softmax", 12) == [1, 2, 3]
    assert axes("LogSoftmax", 11, -2) == axes("Hardmax", 9, 2) == [2, 3]
    assert axes("Softmax", 13) == axes("Hardmax", 13) == [3]
    assert axes("Softmax", 13, 1) == axes("LpNormalization", 1, 1) == [1]
    assert axes("LayerNormalization", 17, -2) == [2, 3]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(("version", "axis", "left"), [(12, 1, 16), (12, 2, 16), (13, 1, 13)])
def test_stripping_behind_a_softmax_leaves_outputs(
    op: str, version: int, axis: int, left: int
) -> None:
    """Before opset 13 axis 1 stands for axes 1 and 2, so that none of 16 columns can go."""
    v = normal(16, 5, seed=1)
    v[[2, 7, 9]] = 0  # nobody reads these columns, but the softmax divides by them
    model = model_of(
        opset(version) + "g (float[N, 4, 6] x) => (float[N, 4, 5] y) { [first] h = MatMul(x, w) "
        f"s = {op} <axis = {axis}> (h) [last] y = MatMul(s, v) }}",
        w=normal(6, 16),
        v=v,
    )
    apply_exact(StripPruned(), model, {"x": normal(3, 4, 6)}, tolerance=1e-6)
    assert stored_input(model, "first", 1).shape == (6, left)


@pytest.mark.parametrize(("axis", "left"), [(2, 5), (-1, 5), (1, 4)])
def test_a_running_sum_is_told_its_axis_by_an_input(axis: int, left: int) -> None:
    v = normal(5, 3)
    v[1] = 0
    model = model_of(
        "g (float[N, 4, 6] x) => (float[N, 4, 3] y) { [first] h = MatMul(x, w) "
        "s = CumSum(h, axis) [last] y = MatMul(s, v) }",
        w=normal(6, 5, seed=1),
        v=v,
        axis=np.array(axis),
    )
    apply_exact(StripPruned(), model, {"x": normal(2, 4, 6)}, tolerance=1e-6)
    assert stored_input(model, "first", 1).shape == (6, left)


def test_a_running_sum_over_channels_in_front_of_positions() -> None:
    """The last axis was taken for the one summed over, and channel 1 of 5 went."""
    w = normal(2, 5, 1, 1, seed=1)
    w[:, 1] = 0
    model = model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) { [first] h = Conv(x, v) "
        "s = CumSum(h, axis) [last] y = Conv(s, w) }",
        v=normal(5, 3, 1, 1),
        w=w,
        axis=np.array(1),
    )
    apply_exact(StripPruned(), model, {"x": normal(2, 3, 6, 6)}, tolerance=1e-6)
    assert stored_input(model, "first", 1).shape == (5, 3, 1, 1)


def test_a_normalization_with_numbers_for_each_place_is_not_followed() -> None:
    text = (
        "g (float[N, 3, 2, 2] x) => (float[N, 2, 2, 2] y) { [first] h = Conv(x, v) "
        "n = BatchNormalization <spatial = 0> (h, s, b, m, d)  y = Conv(n, w) }"
    )
    place = normal(5, 2, 2)
    model = model_of(
        opset(8) + text, v=normal(5, 3, 1, 1), w=normal(2, 5, 1, 1), s=place, b=place, m=place,
        d=place**2 + 1,
    )  # fmt: skip
    found = find_groups(model, RuntimeContext())
    assert not found.groups
    assert any("for each place" in each.reason for each in found.skipped)


def test_a_dropout_that_trains_makes_other_numbers_of_all_but_zero() -> None:
    def stripped(training: bool) -> tuple[int, ...]:
        bias = np.array([0, 0, 3, 1, 2], np.float32)
        v = normal(6, 5)
        v[:, 1:3] = 0  # one column holds 0, the other its bias
        model = model_of(
            "g (float[N, 6] x) => (float[N, 2] y) { [first] h = Gemm(x, v, b) "
            "d = Dropout(h, ratio, training) [last] y = MatMul(d, w) }",
            v=v, b=bias, w=normal(5, 2), ratio=np.array(0.5, np.float32),
            training=np.array(training),
        )  # fmt: skip
        PassManager([StripPruned()]).run(model, RuntimeContext())
        return stored_input(model, "first", 1).shape

    assert stripped(False) == (6, 3)
    assert stripped(True) == (6, 4)
