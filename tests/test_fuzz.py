"""Files with something wrong: done, or refused with an error of the library; and what was found."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import onnxcompress
from benchmarks.fuzz.__main__ import fuzz
from benchmarks.fuzz.worker import case_of
from onnxcompress.data.npz import read_members
from onnxcompress.errors import DataError, ModelError
from onnxcompress.ir.from_proto import import_model
from onnxcompress.pass_manager import apply_pass
from onnxcompress.passes.factorize_weights import FactorizeWeights
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import outputs, proto
from tests.passes.support import model_of


@pytest.mark.slow
def test_500_cases(tmp_path: Path) -> None:
    """`python -m benchmarks.fuzz` tries 20,000."""
    found = fuzz(0, 500, tmp_path / "case")
    assert found.bad == {}
    assert sum(found.counts.values()) == 500
    for kind in ("model", "data", "recipe", "report"):
        for word in ("done", "refused"):
            assert found.counts[kind, word] > 0, (kind, word)


@pytest.mark.slow
def test_what_becomes_of_a_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that hangs, and one that ends the process, cost themselves alone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "from benchmarks.fuzz import worker\n"
        "real = worker.outcome\n"
        "done = []\n"
        "def outcome(case):\n"
        "    done.append(case)\n"
        "    if os.environ['FAULT'] == 'hang' and len(done) == 2: time.sleep(60)\n"
        "    if os.environ['FAULT'] == 'crash' and len(done) == 2: os._exit(7)\n"
        "    return 'INTERNAL: x' if len(done) == 3 else 'done'\n"
        "worker.outcome = outcome\n"
    )
    script = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); import sitecustomize; "
        "sys.argv[0] = 'worker'; from benchmarks.fuzz import worker; worker.main()"
    )
    monkeypatch.setattr("benchmarks.fuzz.__main__.WORKER", ["-c", script])
    for fault, told in (("hang", "HANG: over 1 s"), ("crash", "CRASH: 7")):
        monkeypatch.setenv("FAULT", fault)
        found = fuzz(0, 3, tmp_path / "case", seconds=1.0)
        assert [each.partition(": ")[2] for each in found.bad.values()] == [told]
        assert list(found.bad) == [1]


def test_a_case_is_always_the_same() -> None:
    for number in range(40):
        assert case_of(number)[:3] == case_of(number)[:3]


def test_nodes_without_outputs_are_left_out() -> None:
    message = proto("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    message.graph.node.add(op_type="Neg", input=["x"])
    message.graph.node.add(op_type="Abs", input=["x"], output=[""])
    model = import_model(message)
    assert [node.op for node in model.graph.nodes] == ["Relu"]
    assert "2 nodes without outputs were left out" in model.notes
    x = np.float32([-1, 2])
    np.testing.assert_array_equal(outputs(model, {"x": x})["y"], [0, 2])


@pytest.mark.parametrize(
    ("text", "stored", "told"),
    [
        ("y = Conv <group = 3> (x, w)", {"w": (4, 2, 1, 1)}, "3 groups do not divide"),
        ("y = Conv <group = -2> (x, w)", {"w": (4, 2, 1, 1)}, "-2 groups do not divide"),
        ("y = ConvTranspose <group = 9> (x, w)", {"w": (4, 2, 1, 1)}, "9 groups do not divide"),
        ("y = Conv(x, w)", {"w": (4, 4)}, r"'w' of shape \[4, 4\] has 2 axes"),
        ("z = Flatten(x)  y = Gemm(z, w)", {"w": (4,)}, "has 1 axes"),
        ("y = MatMul(x, w)", {"w": ()}, "has 0 axes"),
        ("a = Squeeze(x)  y, h = GRU <hidden_size = 2> (a, w, w)", {"w": (6, 4)}, "has 2 axes"),
        ("a = Transpose <perm = [0, 0]> (w)  y = Add(x, a)", {"w": (2, 2)}, r"perm=\[0, 0\]"),
        ("y = Mul(x)", {}, "it has 1 inputs, and needs 2"),
        (
            "y = BatchNormalization(x, a, a, a, w)",
            {"a": (4,), "w": (3,)},
            r"its stored tensors are of \[4\], \[4\], \[4\], \[3\]",
        ),
    ],
)
def test_stored_tensors_that_do_not_fit(
    text: str, stored: dict[str, tuple[int, ...]], told: str
) -> None:
    arrays = {name: np.ones(shape, np.float32) for name, shape in stored.items()}
    with pytest.raises(ModelError, match=told):
        model_of(f"g (float[N, 4, 2, 2] x) => (float[N, c, 2, 2] y) {{ {text} }}", **arrays)


def test_a_constant_of_another_type_than_its_name(tmp_path: Path) -> None:
    message = proto("g () => (int64 y) { y = Constant <value_int = 3> () }")
    message.graph.node[0].attribute[0].type = onnx.AttributeProto.TENSOR
    message.graph.node[0].output[0] = "z"
    message.graph.node.add(op_type="Identity", input=["z"], output=["y"])
    (tmp_path / "m.onnx").write_bytes(message.SerializeToString())
    with pytest.raises(ModelError, match="'value_int' is of another type"):
        onnxcompress.load(tmp_path / "m.onnx")


def test_a_location_that_is_no_text(tmp_path: Path) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="ab")
    message = proto("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    message.graph.initializer.append(tensor)
    raw = message.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(raw.replace(b"\x12\x02ab", b"\x12\x02\xff\xfe"))
    with pytest.raises(ModelError):
        onnxcompress.load(tmp_path / "m.onnx")


def test_headers_that_are_no_python(tmp_path: Path) -> None:
    for header in (b"{'a': (", b"{'descr'", b"(" * 200, b"{1: 2, 3}", b"\xff'"):
        size = len(header).to_bytes(2, "little")
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + size + header)
        with pytest.raises(DataError, match="no readable header"):
            read_members(tmp_path / "d.npz")


def test_weights_with_nan_are_no_product() -> None:
    weight = np.ones((64, 64), np.float32)
    weight[0, 0] = np.nan
    model = model_of("g (float[N, 64] x) => (float[N, 64] y) { y = MatMul(x, w) }", w=weight)
    edit, _ = apply_pass(FactorizeWeights(rank=4, by_data=False), model, RuntimeContext())
    assert [skip.reason for skip in edit.skips] == ["its weight holds NaN or infinities"]
