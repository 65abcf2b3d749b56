import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.qdq.kernels import DATA_INPUTS, NO_KERNEL, ROLES, Role
from onnxcompress.qdq.placement import Placement, place
from tests.helpers import proto


def _model(body: str, outputs: str = "float[N, 4, a, b] y") -> Model:
    message = proto(f"g (float[N, 4, 8, 8] x) => ({outputs}) {{ {body} }}")
    weights = {"w": np.ones((4, 4, 1, 1)), "v": np.ones((256, 4)), "low": np.zeros(())}
    for name, array in weights.items():
        message.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return import_model(message)


def _place(model: Model, *excluded: str) -> tuple[Placement, dict[str, str]]:
    refused: dict[str, str] = {}

    def refuse(node: Node, reason: str) -> None:
        refused[node.name] = reason

    return place(model, lambda node: node.name not in excluded, refuse), refused


def _names(placement: Placement) -> tuple[list[str], list[str]]:
    return [n.name for n in placement.nodes], [t.name for t in placement.tensors]


def test_a_region_grows_through_joins_and_moves_to_a_product() -> None:
    model = _model(
        """[c] h = Conv(x, w)  [r] i = Relu(h)  [p] j = MaxPool <kernel_shape = [1, 1]> (i)
           [a] k = Add(i, j)  [f] l = Flatten(k)  [g] y = Gemm(l, v)""",
        "float[N, 4] y",
    )
    placement, refused = _place(model)
    assert _names(placement) == (["c", "p", "a", "f", "g"], ["x", "i", "k"])
    expected = [Role.CONV, Role.MOVE, Role.JOIN, Role.MOVE, Role.PRODUCT]
    assert list(placement.nodes.values()) == expected
    assert {t.name: n.name for t, n in placement.vanishing.items()} == {"i": "r"}
    assert {t.name for t in placement.results} == {"i", "k"}
    assert refused == {}


def test_an_activation_with_a_second_reader_does_not_vanish() -> None:
    model = _model("[c] h = Conv(x, w)  [r] i = Relu(h)  [d] y = Conv(i, w)  z = Sin(h)",
                   "float[N, 4, a, b] y, float[N, 4, c, d] z")  # fmt: skip
    placement, _ = _place(model)
    assert _names(placement)[1] == ["x", "h", "i", "y"]
    assert placement.vanishing == {}


@pytest.mark.parametrize(
    ("body", "vanishes"),
    [
        ("[r] i = Clip(h, low)", True),
        ("[r] i = Clip(h)", True),
        ("m = ReduceMax <keepdims = 0> (x)  [r] i = Clip(h, , m)", False),
    ],
)
def test_a_clip_with_bounds_computed_at_run_time_does_not_vanish(body: str, vanishes: bool) -> None:
    model = _model(f"[c] h = Conv(x, w)  {body}  [d] y = Conv(i, w)")
    placement, _ = _place(model)
    assert bool(placement.vanishing) is vanishes


def test_what_ends_in_float_is_dropped_back_to_the_last_integer_reader() -> None:
    model = _model("[c] h = Conv(x, w)  [a] i = Add(h, h)  [m] j = Reshape(i, s)  y = Sin(j)")
    shape = onnx.helper.make_tensor("s", onnx.TensorProto.INT64, [4], [0, 0, 0, 0])
    message = proto("g (float[N, 4, 8, 8] x) => (float[N, 4, a, b] y) { [c] h = Conv(x, w)"
                    " [a] i = Add(h, h) [m] j = Reshape(i, s) y = Sin(j) }")  # fmt: skip
    message.graph.initializer.append(shape)
    message.graph.initializer.append(
        numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    )
    model = import_model(message)
    placement, refused = _place(model)
    assert _names(placement) == (["c"], ["x", "h"])
    reason = "nothing that runs on integers reads its result"
    assert refused == {"a": reason, "m": reason}


def test_an_excluded_join_cuts_the_region() -> None:
    model = _model("[c] h = Conv(x, w)  [a] i = Add(h, h)  [b] j = Mul(i, h)  [d] y = Conv(j, w)")
    placement, refused = _place(model, "a")
    assert _names(placement)[0] == ["c", "d"]
    assert refused == {"b": "reads 'i', which stays float"}


def test_the_tables_agree() -> None:
    weighted = {op for op, role in ROLES.items() if role in (Role.CONV, Role.PRODUCT)}
    assert weighted | {"ConvTranspose"} == set(WEIGHTED_OPS)
    assert not NO_KERNEL.keys() & ROLES.keys()
    assert DATA_INPUTS.keys() <= {op for op, role in ROLES.items() if role is Role.JOIN}
