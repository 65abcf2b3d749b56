import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcompress.errors import ModelError, SessionError
from onnxcompress.measure.memory_probe import main, peak_resident_bytes, resident_bytes
from onnxcompress.measure.size import file_bytes, load_seconds, measure_size, peak_memory_bytes
from onnxcompress.runtime.child import module_path
from onnxcompress.runtime.session import SessionSettings
from tests.helpers import parse_model

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def _saved(path: Path, elements: int = 4) -> Path:
    model = parse_model(f"{HEAD} g (float[N, 1] x) => (float[N, M] y) {{ y = Add(x, w) }}")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(elements, np.float32), name="w"))
    onnx.save(model, path)
    return path


def _with_external(path: Path) -> Path:
    """One file used by a weight, another by a tensor in the branch of an If."""
    model = parse_model(f"""{HEAD} g (float[2] x, bool c) => (float[2] y) {{
      h = Add(x, w)
      y = If (c) <then_branch = a () => (float[2] p) {{ v = Constant<value = float[2] {{0, 0}}>()
                                                       p = Mul(h, v) }},
                  else_branch = b () => (float[2] q) {{ q = Neg(h) }}>
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    inner = model.graph.node[1].attribute[0].g.node[0].attribute[0].t
    for tensor, name in ((model.graph.initializer[0], "w.bin"), (inner, "v.bin")):
        (path.parent / name).write_bytes(bytes(8 if name == "w.bin" else 100))
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
        tensor.external_data.add(key="length", value="8")
    path.write_bytes(model.SerializeToString())
    return path


def test_file_bytes(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.onnx")
    assert file_bytes(path) == path.stat().st_size


def test_external_data_count_wherever_they_are_used(tmp_path: Path) -> None:
    path = _with_external(tmp_path / "m.onnx")
    assert file_bytes(path) == path.stat().st_size + 8 + 100
    (tmp_path / "v.bin").unlink()
    with pytest.raises(ModelError, match=r"'v\.bin' is missing beside it"):
        file_bytes(path)


def test_external_data_elsewhere_are_refused(tmp_path: Path) -> None:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"'\.\./w\.bin' lie outside the model's folder"):
        file_bytes(tmp_path / "m.onnx")


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff\xff\xff")
    for name in ("m.onnx", "none.onnx"):
        with pytest.raises(ModelError, match=f"{name}: cannot be read as an ONNX model"):
            file_bytes(tmp_path / name)


def test_load_seconds(tmp_path: Path) -> None:
    assert load_seconds(_saved(tmp_path / "m.onnx"), repeats=2) > 0


def test_peak_memory_holds_the_weights_and_the_result(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.onnx", elements=4_000_000)
    settings = SessionSettings(optimize=False, prepack=False)
    loading = peak_memory_bytes(path, None, settings)
    running = peak_memory_bytes(path, {"x": np.ones((4, 1), np.float32)}, settings)
    assert loading >= 16_000_000
    assert running >= loading + 32_000_000


def test_all_at_once(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.onnx")
    size = measure_size(path, {"x": np.ones((4, 1), np.float32)})
    assert size.file_bytes == path.stat().st_size
    assert size.load_seconds > 0
    assert size.peak_memory_bytes is not None
    assert 0 < size.peak_memory_bytes < 500_000_000


def test_a_model_that_cannot_run_is_told_in_one_line(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.onnx")
    with pytest.raises(SessionError, match=r"memory was not measured: .*Got: 2 Expected: 1") as e:
        peak_memory_bytes(path, {"x": np.ones((4, 2), np.float32)})
    assert "\n" not in str(e.value)


def test_the_probe_writes_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(_saved(tmp_path / "m.onnx")), "--no-optimize", "--no-prepack"]) == 0
    assert int(capsys.readouterr().out) >= 0
    assert main([str(tmp_path / "none.onnx")]) == 1
    assert "cannot load" in capsys.readouterr().err


def test_text_and_bfloat16_reach_the_probe(tmp_path: Path) -> None:
    model = parse_model(
        f"{HEAD} g (string[1] s, bfloat16[2] b) => (string[1] t, float[2] y)"
        "{ t = Identity(s) y = Cast<to = 1>(b) }"
    )
    onnx.save(model, tmp_path / "m.onnx")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    # onnxruntime takes no text along with bfloat16, so only the message tells that both arrived.
    feed = {"s": np.array(["a"], object), "b": np.ones(2, dtype)}
    with pytest.raises(SessionError, match="non-string numpy arrays"):
        peak_memory_bytes(tmp_path / "m.onnx", feed)


def test_the_peak_is_never_below_what_is_held() -> None:
    assert peak_resident_bytes() >= resident_bytes() > 0


@pytest.mark.parametrize("how", ["", "absolute"])
def test_modules_of_the_current_folder_are_not_run(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psutil", "numpy", "json", "runpy", "onnxcompress"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path) if how else "", *sys.path])
    path = _saved(tmp_path / "m.onnx")
    assert peak_memory_bytes(path, {"x": np.ones((4, 1), np.float32)}) > 0
    assert not (tmp_path / "ran").exists()


def test_a_model_whose_name_looks_like_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert peak_memory_bytes(_saved(Path("--feed.onnx"))) > 0


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    _saved(tmp_path / "m.onnx")
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom onnxcompress.measure.size import peak_memory_bytes\n"
        "print('once', peak_memory_bytes(Path('m.onnx')) > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(module_path())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("once True\n", 0), done.stderr


def test_memory_that_cannot_be_measured_costs_that_figure_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], -9, "", "")

    monkeypatch.setattr("onnxcompress.measure.size.run_module", ended)
    path = _saved(tmp_path / "m.onnx")
    size = measure_size(path)
    assert size.peak_memory_bytes is None
    assert size.memory_fault == (
        f"{path}: memory was not measured: it was killed, perhaps for want of memory"
    )
    assert size.file_bytes == path.stat().st_size
