"""The nodes that unpack give the reference bit for bit, and vanish when the session loads."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from onnxcompress.qdq.unpack import bitmap_of, spread, unpacked, widened
from onnxcompress.quantization.binary import binarize
from onnxcompress.quantization.bitpack import CodedWeight
from onnxcompress.quantization.groups import Grouping, Groups
from onnxcompress.quantization.palette import codebook_groups, palettize
from onnxcompress.quantization.ternary import ternarize
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.runtime.session import Session
from tests.helpers import outputs
from tests.passes.restored import dims
from tests.passes.support import Array, model_of, normal, opset

SHAPES = [((16, 3, 3, 3), 0), ((5, 7), 1), ((64, 40), 1), ((4, 6, 3, 1), 1), ((2, 10, 3), 2)]


def _reading(w: Array, version: int = 13) -> Model:
    """A model that returns its stored tensor plus an input of zero."""
    text = f"g (float x) => (float{dims(w.ndim)} y) {{ [n] y = Add(w, x) }}"
    return model_of(opset(version) + text, w=w)


def _written(w: Array, coded: CodedWeight, version: int = 13) -> Model:
    model = _reading(w, version)
    edit = Editor(model)
    node = model.graph.nodes[0]
    weight = node.inputs[0]
    assert isinstance(weight, Constant)
    edit.set_input(node, 0, unpacked(edit, weight, coded, node))
    edit.finish()
    sort(model.graph)
    verify(model)
    return model


def _assert_bit_equal(model: Model, expected: Array) -> None:
    feeds = {"x": np.array(0, np.float32)}
    for values in (outputs(model, feeds), Session(io.to_bytes(model)).run(feeds)):
        assert values["y"].shape == expected.shape
        np.testing.assert_array_equal(values["y"], expected)
    assert executed_ops(io.to_bytes(model)) == {"Add": 1}


@pytest.mark.parametrize("version", [11, 13, 18, 21])
@pytest.mark.parametrize("grouping", Grouping)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_signs_and_trits(
    shape: tuple[int, ...], axis: int, grouping: Grouping, version: int
) -> None:
    w = normal(*shape)
    groups = Groups.of(shape, axis, grouping, 4)
    for coded in (binarize(w, groups, 1), binarize(w, groups, 3), ternarize(w, groups, 0.7)):
        assert np.square(coded.values() - w).sum() < 0.6 * np.square(w).sum()
        _assert_bit_equal(_written(w, coded, version), coded.values())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("entries", [4, 16, 100, 256])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_palettes(shape: tuple[int, ...], axis: int, entries: int, per_channel: bool) -> None:
    w = normal(*shape)
    coded = palettize(w, codebook_groups(shape, axis, per_channel=per_channel), entries, 0)
    _assert_bit_equal(_written(w, coded), coded.values())


@pytest.mark.parametrize("zeros", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("version", [11, 13, 21])
@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (5, 7), (64, 40), (13,)])
def test_a_bitmap_puts_values_in_their_places(
    shape: tuple[int, ...], version: int, zeros: float
) -> None:
    w = normal(*shape) * (np.random.default_rng(0).random(shape) >= zeros).astype(np.float32)
    model = _reading(w, version)
    edit = Editor(model)
    node = model.graph.nodes[0]
    weight = node.inputs[0]
    assert isinstance(weight, Constant)
    whole = spread(edit, weight, node)
    edit.set_input(node, 0, whole)
    edit.finish()
    sort(model.graph)
    _assert_bit_equal(model, w)
    bitmap = bitmap_of(whole)
    assert bitmap is not None
    np.testing.assert_array_equal(bitmap.load(), w)
    assert bitmap.values.size == np.count_nonzero(w) + 1
    others = [tensor for each in model.graph.nodes for tensor in each.inputs if tensor is not whole]
    assert {bitmap_of(tensor) for tensor in others} == {None}


@pytest.mark.parametrize("megabytes", [1, 16])
def test_large_weights_are_unpacked_once_at_load(megabytes: int) -> None:
    w = normal(megabytes * 256, 1023)
    groups = Groups.of(w.shape, 1, Grouping.PER_BLOCK, 100)
    coded = binarize(w, groups, 2)
    model = _written(w, coded)
    assert executed_ops(io.to_bytes(model)) == {"Add": 1}
    assert model.weight_bytes < coded.nbytes + 200


def test_a_smaller_float_with_a_scale() -> None:
    w = normal(8, 5)
    scale = np.linspace(1, 2, 5, dtype=np.float32).reshape(1, 5)
    model = _reading(w)
    edit = Editor(model)
    node = model.graph.nodes[0]
    weight = node.inputs[0]
    assert isinstance(weight, Constant)
    edit.set_input(node, 0, widened(edit, weight, w.astype(np.float16), scale, node))
    edit.finish()
    sort(model.graph)
    _assert_bit_equal(model, w.astype(np.float16).astype(np.float32) * scale)
