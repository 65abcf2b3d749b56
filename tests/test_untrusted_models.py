"""Models of a few hundred bytes that want all memory there is: refused, within the limit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

import onnxcompress
from onnxcompress.data.memory import available_bytes, machine_bytes, memory_limit
from onnxcompress.errors import ModelError, OnnxCompressError
from onnxcompress.pass_manager import apply_pass
from onnxcompress.passes.fold_constants import FoldConstants
from onnxcompress.runtime.child import module_path
from onnxcompress.runtime.context import RuntimeContext

LIMIT = 1 << 30
OPSET = helper.make_opsetid("", 17)
HUGE = 1 << 33


def _write(
    path: Path,
    nodes: list[NodeProto],
    stored: dict[str, object] | None = None,
    shape: list[int | str] | None = None,
    functions: tuple[FunctionProto, ...] = (),
) -> None:
    """A model that adds the sum of `big` to its input."""
    ends = [helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0)]
    ends.append(helper.make_node("Add", ["x", "sum"], ["y"]))
    graph = helper.make_graph(
        [*nodes, *ends],
        "attack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (stored or {}).items()
        ],
    )
    domains = {each.domain for each in functions}
    model = helper.make_model(
        graph,
        opset_imports=[OPSET, *(helper.make_opsetid(each, 1) for each in domains)],
        ir_version=8,
        functions=functions,
    )
    path.write_bytes(model.SerializeToString())


def _doubled() -> list[NodeProto]:
    steps = ["one", *(f"c{turn}" for turn in range(32)), "big"]
    return [
        helper.make_node("Concat", [before, before], [after], axis=0)
        for before, after in pairwise(steps)
    ]


ONE = np.ones(1, np.float32)
CONSTANT = helper.make_node("ConstantOfShape", ["n"], ["big"])
ATTACKS: dict[str, tuple[list[NodeProto], dict[str, object]]] = {
    "ConstantOfShape": ([CONSTANT], {"n": [HUGE]}),
    "Expand": (
        [helper.make_node("Expand", ["one", "n"], ["big"])],
        {"one": ONE, "n": [1 << 17, 1 << 16]},
    ),
    "Range": (
        [
            helper.make_node("Range", ["a", "b", "d"], ["r"]),
            helper.make_node("Cast", ["r"], ["big"], to=TensorProto.FLOAT),
        ],
        {"a": 0, "b": HUGE, "d": 1},
    ),
    "Tile": ([helper.make_node("Tile", ["one", "n"], ["big"])], {"one": ONE, "n": [HUGE]}),
    "Concat": (_doubled(), {"one": ONE}),
    "outer product": (
        [
            helper.make_node("ConstantOfShape", ["n"], ["a"]),
            helper.make_node("ConstantOfShape", ["m"], ["b"]),
            helper.make_node("MatMul", ["a", "b"], ["big"]),
        ],
        {"n": [1 << 17, 1], "m": [1, 1 << 16]},
    ),
    "Pad": (
        [helper.make_node("Pad", ["one", "n"], ["big"])],
        {"one": ONE, "n": [0, HUGE]},
    ),
    "RandomNormal": ([helper.make_node("RandomNormal", [], ["big"], shape=[HUGE])], {}),
    "OneHot": (
        [helper.make_node("OneHot", ["i", "n", "v"], ["big"])],
        {"i": [0, 1, 2, 3], "n": HUGE // 4, "v": np.float32([0, 1])},
    ),
    "Resize": (
        [helper.make_node("Resize", ["one", "", "k"], ["big"])],
        {"one": np.ones((1, 1, 1, 1), np.float32), "k": np.float32([1, 1, 1 << 16, 1 << 17])},
    ),
}

# Runs each command on each model under the limit; says what came of it and the most memory taken.
ALL = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import onnxcompress
from pathlib import Path
from onnxcompress.data.memory import limit_memory
from onnxcompress.measure.memory_probe import peak_resident_bytes
limit_memory(int(sys.argv[2]))
told = {}
for path in sorted(Path.cwd().glob("*.onnx")):
    calls = {
        "inspect": lambda: onnxcompress.inspect_model(path),
        "compress": lambda: onnxcompress.compress(path, "out/small.onnx"),
        "bench": lambda: onnxcompress.benchmark([path]),
    }
    for name, call in calls.items():
        try:
            call()
            told[f"{path.stem} {name}"] = "done"
        except onnxcompress.OnnxCompressError as fault:
            told[f"{path.stem} {name}"] = str(fault)
print(json.dumps([told, peak_resident_bytes()]))
"""


def test_what_wants_all_memory_is_refused_within_the_limit(tmp_path: Path) -> None:
    """The library, in one process: each of the others must leave it fit for the next."""
    (tmp_path / "out").mkdir()
    for name, (nodes, stored) in ATTACKS.items():
        _write(tmp_path / f"{name}.onnx", nodes, stored)
        assert (tmp_path / f"{name}.onnx").stat().st_size < 2000
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(module_path()), str(LIMIT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told, peak = json.loads(done.stdout)
    assert set(told) == {f"{n} {c}" for n in ATTACKS for c in ("inspect", "compress", "bench")}
    for what, outcome in told.items():
        # Where it loads, a model can be inspected without its shapes, which the report says.
        if outcome != "done" or not what.endswith("inspect"):
            assert re.search(r"out of memory|would require more than \d+ bytes", outcome), what
    assert peak < LIMIT + (256 << 20)
    assert list((tmp_path / "out").iterdir()) == []


def _calling(count: int, times: int) -> tuple[FunctionProto, ...]:
    """Functions that call the one before them so many times, one after the other."""
    imports = [OPSET, helper.make_opsetid("f", 1)]
    relu = helper.make_node("Relu", ["a"], ["b"])
    made = [helper.make_function("f", "f0", ["a"], ["b"], [relu], [OPSET])]
    for number in range(1, count):
        names = ["a", *(f"t{turn}" for turn in range(times - 1)), "b"]
        calls = [
            helper.make_node(f"f{number - 1}", [one], [other], domain="f")
            for one, other in pairwise(names)
        ]
        made.append(helper.make_function("f", f"f{number}", ["a"], ["b"], calls, imports))
    return tuple(made)


@pytest.mark.parametrize(
    ("count", "times", "called", "told"),
    [
        (40, 2, ["f39"], "stand for more than 1000000 nodes"),
        (4000, 1, ["f3999"], "call each other more than 100 deep"),
        (300, 1, [f"f{number}" for number in range(300)], "call each other more than 100 deep"),
    ],
)
def test_functions_are_counted_before_they_are_inlined(
    count: int, times: int, called: list[str], told: str, tmp_path: Path
) -> None:
    tensors = [f"v{number}" for number in range(len(called))] + ["big"]
    calls = [
        helper.make_node(name, [one], [other], domain="f")
        for name, one, other in zip(called, tensors, tensors[1:], strict=False)
    ]
    calls.insert(0, helper.make_node("Identity", ["x"], ["v0"]))
    _write(tmp_path / "functions.onnx", calls, functions=_calling(count, times))
    with pytest.raises(ModelError, match=told):
        onnxcompress.load(tmp_path / "functions.onnx")


def test_functions_a_hundred_deep_are_inlined(tmp_path: Path) -> None:
    call = helper.make_node("f99", ["x"], ["big"], domain="f")
    _write(tmp_path / "functions.onnx", [call], functions=_calling(100, 1))
    model = onnxcompress.load(tmp_path / "functions.onnx")
    assert [node.op for node in model.graph.nodes] == ["Relu", "ReduceSum", "Add"]


@pytest.mark.parametrize("shape", [[1 << 40], ["N", 1 << 20, 1 << 20], [1 << 62, 1 << 62]])
def test_inputs_that_no_memory_holds(shape: list[int | str], tmp_path: Path) -> None:
    path = tmp_path / "input.onnx"
    _write(path, [helper.make_node("Identity", ["x"], ["big"])], shape=shape)
    with pytest.raises(OnnxCompressError):
        onnxcompress.compress(path, tmp_path / "out.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["input.onnx"]


def test_shapes_that_no_bytes_stand_behind(tmp_path: Path) -> None:
    for dims in ([1 << 40, 1 << 40], [-1, 4], [1 << 20, 0, 1 << 62]):
        tensor = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=dims)
        path = tmp_path / "dims.onnx"
        _write(path, [])
        model = onnx.load(path)
        model.graph.initializer.append(tensor)
        onnx.save(model, path)
        with pytest.raises(ModelError, match="'big'"):
            onnxcompress.load(path)


def test_the_limit_counts_as_memory_that_is_free() -> None:
    """In a process of its own, since a limit is never taken back."""
    script = (
        f"import sys; sys.path[:] = {module_path()}; from onnxcompress.data import memory; "
        "memory.limit_memory(1 << 29); memory.limit_memory(1 << 30); "
        "print(memory.memory_limit(), memory.available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    limit, available = map(int, done.stdout.split())
    assert limit == 1 << 29
    assert 0 < available < limit
    assert available_bytes() <= machine_bytes()
    assert memory_limit() is None or memory_limit() > 0  # type: ignore[operator]


def test_sparse_tensors_are_not_spread_out(tmp_path: Path) -> None:
    path = tmp_path / "sparse.onnx"
    _write(path, [])
    model = onnx.load(path)
    values = numpy_helper.from_array(np.ones(1, np.float32), "big")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [1 << 17, 1 << 17])
    model.graph.sparse_initializer.append(sparse)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"'big': .* is over 2 GiB when spread out"):
        onnxcompress.load(path)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"RandomNormal", "Resize"}))
def test_what_constants_fold_to_is_counted_first(name: str, tmp_path: Path) -> None:
    """Without any limit on the process, and without taking a gigabyte."""
    nodes, stored = ATTACKS[name]
    _write(tmp_path / "model.onnx", nodes, stored)
    model = onnxcompress.load(tmp_path / "model.onnx")
    # Not by the manager, which runs the model as it came: that is for the limit of the process.
    edit, _ = apply_pass(FoldConstants(), model, RuntimeContext())
    assert any(
        re.search(r"needs [\d,]+ MiB.*, more than the [\d,]+ MiB", skip.reason)
        for skip in edit.skips
    )
    assert model.weight_bytes < 64 << 20


def test_constants_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is large, all together are."""
    each = [helper.make_node("ConstantOfShape", ["n"], [f"c{at}"]) for at in range(16)]
    total = helper.make_node("Sum", [f"c{at}" for at in range(16)], ["big"])
    _write(tmp_path / "model.onnx", [*each, total], {"n": [1 << 18]})
    monkeypatch.setattr("onnxcompress.runtime.evaluate.bytes_for_model", lambda _: 80 << 20)
    model = onnxcompress.load(tmp_path / "model.onnx")
    edit, _ = apply_pass(FoldConstants(max_growth=100.0), model, RuntimeContext())
    told = [skip.reason for skip in edit.skips if "MiB for others" in skip.reason]
    assert told
    assert told[0].endswith("more than the 10 MiB that a model of this size may take")
    assert {node.op for node in model.graph.nodes} >= {"ConstantOfShape", "Sum"}


def test_sparse_tensors_are_counted_together(tmp_path: Path) -> None:
    path = tmp_path / "sparse.onnx"
    _write(path, [helper.make_node("Sum", [f"s{at}" for at in range(64)], ["big"])])
    model = onnx.load(path)
    for at in range(64):
        values = numpy_helper.from_array(np.ones(1, np.float32), f"s{at}")
        indices = numpy_helper.from_array(np.zeros(1, np.int64))
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 28]))
    onnx.save(model, path)
    with pytest.raises(
        ModelError, match=r"spread out needs 1,024 MiB beside [\d,]+ MiB for others"
    ):
        onnxcompress.load(path)


def test_external_bytes_that_are_named_over_and_over(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(1 << 20))
    path = tmp_path / "model.onnx"
    _write(path, [helper.make_node("Sum", [f"w{at}" for at in range(512)], ["big"])])
    for count, refused in ((2, False), (512, True)):
        model = onnx.load(path, load_external_data=False)
        del model.graph.initializer[:]
        for at in range(count):
            tensor = TensorProto(name=f"w{at}", data_type=TensorProto.FLOAT, dims=[1 << 18])
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="data.bin")
            model.graph.initializer.append(tensor)
        model.graph.node[0].input[:] = [f"w{at}" for at in range(count)]
        path.write_bytes(model.SerializeToString())
        if refused:
            with pytest.raises(ModelError, match="over and over"):
                onnxcompress.load(path)
        else:  # as tied weights do
            assert onnxcompress.load(path).weight_bytes == 2 << 20
