"""A model is written whole or not at all, and never over what it was read from."""

import errno
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnxcompress.errors import OutputError
from onnxcompress.files import check_outputs
from onnxcompress.ir import elements, io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from tests.helpers import parse, proto, run

SMALL = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"


def _large(count: int = 300_000, onnx_type: int = TensorProto.FLOAT) -> Model:
    message = proto("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    dtype = np.dtype(np.float32) if onnx_type == TensorProto.FLOAT else np.dtype(ml_dtypes.int4)
    values = np.random.default_rng(0).integers(-8, 8, count).astype(dtype)
    message.graph.initializer.append(elements.from_array(values, "w"))
    return import_model(message)


def _listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def _full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes, whoever writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_never_over_the_input(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    io.save(parse(SMALL), path)
    before = _listing(tmp_path)
    (tmp_path / "alias.onnx").symlink_to(path)
    model = io.load(path)
    for target in (path, tmp_path / "x" / ".." / "m.onnx", tmp_path / "alias.onnx"):
        for one in (model, clone(model)):
            with pytest.raises(OutputError, match="is a file of the input model"):
                io.save(one, target)
    (tmp_path / "alias.onnx").unlink()
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("onnx_type", [TensorProto.FLOAT, TensorProto.INT4])
def test_never_over_the_inputs_data_file(tmp_path: Path, onnx_type: int) -> None:
    io.save(_large(9000, onnx_type), tmp_path / "m.onnx", external=True)
    (tmp_path / "m.onnx").rename(tmp_path / "renamed.onnx")
    before = _listing(tmp_path)
    model = io.load(tmp_path / "renamed.onnx")
    # Even once nothing reads the old weights any more.
    model.graph.initializers.clear()
    for external in (True, False):
        target = "m.onnx" if external else "m.onnx.data"
        with pytest.raises(OutputError, match=r"m.onnx.data: is a file of the input model"):
            io.save(model, tmp_path / target, external=external)
    assert _listing(tmp_path) == before


def test_no_folder_and_no_permission(tmp_path: Path) -> None:
    model = parse(SMALL)
    with pytest.raises(OutputError, match="No such file or directory") as caught:
        io.save(model, tmp_path / "missing" / "m.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="Not a directory"):
        (tmp_path / "file").touch()
        io.save(model, tmp_path / "file" / "m.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for external in (False, True):
        with pytest.raises(OutputError, match="is a folder"):
            io.save(model, tmp_path / "folder.onnx", external=external)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder = Path("/sys") if os.geteuid() == 0 else tmp_path  # root may write everywhere else
    try:
        for write in (partial(io.save, parse(SMALL)), _check):
            with pytest.raises(OutputError, match=r"cannot be written: .* (denied|permit|fil)"):
                write(folder / "m.onnx")
    finally:
        tmp_path.chmod(0o700)


def _check(path: Path) -> None:
    check_outputs([path], [])


def test_a_check_of_outputs_leaves_no_trace(tmp_path: Path) -> None:
    target, source = tmp_path / "out.onnx", tmp_path / "in.onnx"
    target.write_text("older")
    source.touch()
    before = _listing(tmp_path)
    check_outputs([target], [source])
    for path, told in [
        (source, "is the input itself"),
        (tmp_path, "is a folder"),
        (tmp_path / "missing" / "m.onnx", "there is no folder"),
    ]:
        with pytest.raises(OutputError, match=told):
            check_outputs([path], [source])
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("limit", [0, 4096, 1_000_000])
def test_a_disk_that_fills_up(tmp_path: Path, external: bool, limit: int) -> None:
    path = tmp_path / "m.onnx"
    io.save(parse(SMALL), path, external=external)
    before = _listing(tmp_path)
    with _full_disk(limit), pytest.raises(OutputError, match="cannot be written") as caught:
        io.save(_large(), path, external=external)
    assert "\n" not in str(caught.value)
    assert _listing(tmp_path) == before


def test_a_disk_full_of_other_things_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"m.onnx: cannot be written: the disk is full"):
        io.save(parse(SMALL), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        io.save(parse(SMALL), tmp_path / "m.onnx", external=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_file_mode_follows_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        written = io.save(_large(1000), tmp_path / "m.onnx", external=True)
    finally:
        os.umask(before)
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_an_older_output_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("older")
    io.save(parse(SMALL), path)
    np.testing.assert_array_equal(run(io.load(path), x=np.zeros(2, np.float32)), [1, 2])
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx"]


def test_saving_changes_nothing_in_the_model(tmp_path: Path) -> None:
    model = parse(SMALL)
    before = io.to_bytes(model)
    io.save(model, tmp_path / "m.onnx", external=True)
    io.save(model, tmp_path / "n.onnx")
    assert io.to_bytes(model) == before
    assert not Editor(model).modified


def test_nothing_but_a_file_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link.onnx"
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OutputError, match="is a device or a pipe, not a file"):
            io.save(parse(SMALL), path)
        with pytest.raises(OutputError, match="is a device or a pipe, not a file"):
            _check(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    with pytest.raises(OutputError, match="is a device or a pipe"):
        _check(Path("/dev/null"))
