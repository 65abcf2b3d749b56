"""The table of integer kernels against the onnxruntime that is installed."""

import numpy as np
import pytest
from onnx import numpy_helper

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeStatic
from onnxcompress.qdq.kernels import ROLES, Role
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import executed_ops, surviving_qdq
from onnxcompress.runtime.session import Session
from onnxcompress.target import Target
from tests.helpers import proto

CALLS = {
    "Add": "Add(h, h)",
    "Mul": "Mul(h, h)",
    "Concat": "Concat <axis = 2> (h, h)",
    "AveragePool": "AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1]> (h)",
    "GlobalAveragePool": "GlobalAveragePool(h)",
    "LeakyRelu": "LeakyRelu <alpha = 0.1> (h)",
    "Sigmoid": "Sigmoid(h)",
    "MaxPool": "MaxPool <kernel_shape = [2, 2]> (h)",
    "Reshape": "Reshape(h, shape)",
    "Flatten": "Flatten <axis = 3> (h)  u = Reshape(m, shape)",
    "Squeeze": "Unsqueeze(h, axes)  k = Squeeze(m, axes)",
    "Unsqueeze": "Unsqueeze(h, axes)  k = Squeeze(m, axes)",
    "Transpose": "Transpose <perm = [0, 1, 3, 2]> (h)",
    "Slice": "Slice(h, begin, end)",
    "Pad": "Pad(h, pads)",
}


@pytest.mark.parametrize("op", [op for op, role in ROLES.items() if role in (Role.JOIN, Role.MOVE)])
def test_every_join_and_move_is_fused(op: str) -> None:
    call = CALLS[op]
    last = "u" if " u = " in call else "k" if " k = " in call else "m"
    message = proto(
        f"""g (float[N, 3, 8, 8] x) => (float[N, 4, a, b] y) {{
          h = Conv(x, w)  m = {call}  y = Conv({last}, v) }}"""
    )
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32),
        "v": rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "shape": np.array([-1, 4, 4, 16]),
        "axes": np.array([1]),
        "begin": np.array([0, 0, 2, 1]),
        "end": np.array([99, 4, 6, 8]),
        "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
    }
    message.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    model = import_model(message)
    feeds = {"x": rng.standard_normal((8, 3, 8, 8)).astype(np.float32)}
    data = dataset_of(feeds, Session(io.to_bytes(model)).inputs)
    context = RuntimeContext(data, target=Target.X86_VNNI)
    [report] = PassManager([QuantizeStatic()]).run(model, context)
    assert report.skips == ()
    raw = io.to_bytes(model)
    executed = executed_ops(raw)
    assert executed["QLinearConv"] == 2
    if ROLES[op] is Role.JOIN:
        assert op not in executed
    assert len(surviving_qdq(raw)) == 2  # the input's and the output's
