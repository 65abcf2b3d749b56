"""The node cases that the onnx package ships, as far as they give floats.

A case counts if one of its outputs holds float16, float32 or float64: 1395 of the 1884 in onnx
1.23.2, of which 974 are the operator itself and 421 its definition by simpler ones ("expanded").
1330 of them (95 %; 914 and 416) give the outputs that come with the case; in 3 onnxruntime gives
others, and so do we; the other 62 are refused with the node's name. None is wrong in silence.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.backend.test import loader

from onnxcompress.distillation.call import UnsupportedError
from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.values import to_numpy, to_torch
from onnxcompress.errors import ModelError
from onnxcompress.ir.from_proto import import_model
from tests import helpers

pytestmark = pytest.mark.slow

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}

PASSED = {"plain": 914, "expanded": 416}
"""How many cases give what is expected of them."""

REFUSED = {
    "Adagrad": 2,
    "Adam": 2,
    "ArrayFeatureExtractor": 1,
    "Bernoulli": 3,
    "Binarizer": 1,
    "Cast": 6,  # from float4 and from float8_e8m0, which PyTorch does not have
    "CastLike": 2,
    "CausalConvWithState": 13,
    "DequantizeLinear": 1,  # of float4
    "Dropout": 4,  # while it trains
    "FlexAttention": 11,
    "Momentum": 3,
    "RandomUniformLike": 3,  # what Bernoulli is defined by
    "Scan": 1,  # as before opset 9
    "TfIdfVectorizer": 7,
    "TreeEnsemble": 2,
}
"""How many cases are refused, by their first operator."""

FOLLOWING_ONNXRUNTIME = {
    "test_maxunpool_export_with_output_shape",
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}
"""Cases whose expected outputs onnxruntime does not give either."""

WITHOUT_COUNTERPART = ("float4_e2m1fn", "float8_e8m0fnu")
"""Element types that PyTorch has no tensors of, so that the inputs cannot even be given."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        operator: of its first node that is no Constant.
        expanded: whether it is an operator's definition.
        refusal: the error's text.
        difference: how the outputs differ from those expected.
    """

    operator: str
    expanded: bool
    refusal: str = ""
    difference: str = ""


def arrays(given):
    """A case's inputs or outputs, read: sequences are lists, empty optionals None."""
    if isinstance(given, TensorProto):
        return numpy_helper.to_array(given)
    if isinstance(given, list | tuple):
        return [arrays(each) for each in given]
    return None if given is None else np.asarray(given)


def fed(array):
    if isinstance(array, list):
        return [to_torch(each) for each in array]
    return None if array is None else to_torch(array)


def difference(found, wanted, rtol: float) -> str:
    """How a value differs from the one expected; empty if it does not."""
    if wanted is None or found is None:
        return "" if found is wanted else f"{found} for {wanted}"
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return "not as many tensors"
        pairs = zip(found, wanted, strict=True)
        return next(filter(None, (difference(a, b, rtol) for a, b in pairs)), "")
    array = to_numpy(found)
    if array.shape != wanted.shape:
        return f"shape {array.shape} for {wanted.shape}"
    if wanted.dtype.kind in "fiub" and array.dtype != wanted.dtype:
        return f"{array.dtype} for {wanted.dtype}"
    # One unit in the last place of a float16 near 1 is 1e-3.
    atol = 1e-3 if wanted.dtype == np.float16 else 1e-5
    close = np.isclose(array, wanted.astype(array.dtype), rtol, atol, equal_nan=True)
    return "" if close.all() else f"{(~close).sum()} of {close.size} values"


def outcome(case) -> Outcome:
    message = onnx.ModelProto.FromString(case.model.SerializeToString())
    names = [value.name for value in message.graph.input]
    operators = [node.op_type for node in message.graph.node if node.op_type != "Constant"]
    operator = operators[0] if operators else "Constant"
    expanded = "_expanded" in case.name
    interpreter = Interpreter(import_model(message))
    for given, expected in case.data_sets:
        try:
            feeds = {name: fed(each) for name, each in zip(names, arrays(given), strict=True)}
            with torch.no_grad():
                found = interpreter.run(feeds)
        except UnsupportedError as refusal:
            return Outcome(operator, expanded, refusal=str(refusal))
        except ModelError as refusal:
            if not str(refusal).startswith(WITHOUT_COUNTERPART):
                raise
            return Outcome(operator, expanded, refusal=str(refusal))
        for value, wanted in zip(found.values(), arrays(expected), strict=True):
            if how := difference(value, wanted, case.rtol):
                return Outcome(operator, expanded, difference=how)
    return Outcome(operator, expanded)


def element_types(type_: onnx.TypeProto) -> Iterator[int]:
    kind = type_.WhichOneof("value")
    if kind == "tensor_type":
        yield type_.tensor_type.elem_type
    elif kind is not None:
        yield from element_types(getattr(type_, kind).elem_type)


@pytest.fixture(scope="module")
def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are made as they are loaded, infinities too
        loaded = loader.load_model_tests(kind="node")
    return {
        case.name: case
        for case in loaded
        if any(
            not FLOATS.isdisjoint(element_types(value.type)) for value in case.model.graph.output
        )
    }


@pytest.fixture(scope="module")
def outcomes(cases):
    return {name: outcome(case) for name, case in cases.items()}


def test_none_is_wrong(outcomes):
    wrong = {name: each.difference for name, each in outcomes.items() if each.difference}
    assert {name: how for name, how in wrong.items() if name not in FOLLOWING_ONNXRUNTIME} == {}
    assert set(wrong) == FOLLOWING_ONNXRUNTIME


@pytest.mark.parametrize("name", sorted(FOLLOWING_ONNXRUNTIME))
def test_where_the_case_is_not_what_onnxruntime_gives(cases, name):
    message = onnx.ModelProto.FromString(cases[name].model.SerializeToString())
    names = [value.name for value in message.graph.input]
    feeds = dict(zip(names, arrays(cases[name].data_sets[0][0]), strict=True))
    expected = helpers.outputs(message, feeds)
    found = Interpreter(import_model(message)).run(feeds)
    helpers.assert_same_outputs(
        expected, {name: to_numpy(value) for name, value in found.items()}, 1e-5
    )


def test_what_is_refused(outcomes):
    refused = [each for each in outcomes.values() if each.refusal]
    assert Counter(each.operator for each in refused) == REFUSED
    for each in refused:
        assert each.refusal.startswith(("node '", *WITHOUT_COUNTERPART)), each


def test_how_many_pass(outcomes):
    same = [each for each in outcomes.values() if not each.refusal and not each.difference]
    passed = Counter("expanded" if each.expanded else "plain" for each in same)
    assert passed == PASSED
