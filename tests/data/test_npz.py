import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from onnxcompress.data.batching import padded
from onnxcompress.data.memory import require_memory
from onnxcompress.data.npz import read_array, read_members
from onnxcompress.data.parts import NpzPart
from onnxcompress.errors import DataError

from .samples import X_ONLY, rows


def _npy(array: np.ndarray, shape: tuple[int, ...]) -> bytes:
    """The bytes of a .npy file whose header claims `shape`."""
    stream = io.BytesIO()
    description = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


def _archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def test_headers_are_read_without_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=np.ones((4, 5), np.int16), b=np.array(3.5))
    members = read_members(tmp_path / "d.npz")
    assert members["a"].shape == (4, 5)
    assert members["a"].dtype == np.int16
    assert members["a"].nbytes == 40
    assert members["b"].shape == ()
    assert read_array(tmp_path / "d.npz", members["b"]) == 3.5


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    path = _archive(tmp_path / "d.npz", x=_npy(rows(2), (10**12, 3)))
    told = r"array 'x' is declared as float32 .*12000000000000 bytes, but 24 bytes are stored"
    with pytest.raises(DataError, match=told):
        read_members(path)


def test_a_header_with_a_negative_size(tmp_path: Path) -> None:
    path = _archive(tmp_path / "d.npz", x=_npy(rows(2), (-2, -3)))
    with pytest.raises(DataError, match="the file is damaged"):
        read_members(path)


def test_a_header_that_is_none(tmp_path: Path) -> None:
    path = _archive(tmp_path / "d.npz", x=b"no header")
    with pytest.raises(DataError, match="array 'x' has no readable header"):
        read_members(path)


def test_damaged_data(tmp_path: Path) -> None:
    # Longer than what is read along with the header.
    path = _archive(tmp_path / "d.npz", x=_npy(rows(10_000), (10_000, 3)))
    members = read_members(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="array 'x' is damaged"):
        read_array(path, members["x"])


def test_a_file_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=rows(2))
    part = NpzPart(path, X_ONLY)
    np.savez(path, x=rows(3))
    with pytest.raises(DataError, match="array 'x' changed while it was in use"):
        part.arrays()
    path.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        part.arrays()


def test_what_memory_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "d.npz", x=rows(1000).astype(np.float64))
    # 24,000 bytes as stored and 12,000 as cast.
    for available, fits in ((36_000, True), (35_999, False)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda free=available: SimpleNamespace(available=free)
        )
        if fits:
            NpzPart(tmp_path / "d.npz", X_ONLY)
        else:
            with pytest.raises(DataError, match=r"d\.npz: its arrays need .* MiB"):
                NpzPart(tmp_path / "d.npz", X_ONLY)


def test_memory_is_told_in_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 << 20))
    require_memory(3 << 20, "d")
    with pytest.raises(DataError, match="d: its arrays need 2,000 MiB and 3 MiB of memory are"):
        require_memory(2000 << 20, "d")


def test_a_header_that_claims_gigabytes(tmp_path: Path) -> None:
    """numpy would read them all before it looks; here a file of 4 MB could hold 4 GiB of spaces."""
    npy = b"\x93NUMPY\x02\x00" + (0xFFFFFFFF).to_bytes(4, "little") + b" " * 1000
    path = _archive(tmp_path / "d.npz", x=npy)
    with pytest.raises(DataError, match=r"no readable header \(it claims to be 4294967295 bytes"):
        read_members(path)


def test_zeros_that_unpack_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = np.zeros((64, 1024), np.float32)
    np.savez_compressed(tmp_path / "d.npz", x=zeros)
    assert read_members(tmp_path / "d.npz")["x"].shape == zeros.shape  # small enough for anyone
    monkeypatch.setattr("onnxcompress.data.npz._SMALL", 1 << 17)
    with pytest.raises(DataError, match=r"unpacks to 0 MiB, \d+ times what is stored"):
        read_members(tmp_path / "d.npz")
    np.savez(tmp_path / "plain.npz", x=zeros)
    assert read_members(tmp_path / "plain.npz")["x"].shape == zeros.shape


def test_a_fixed_batch_that_no_memory_holds() -> None:
    with pytest.raises(DataError, match="a batch of 1152921504606846976 samples: its arrays need"):
        padded({"x": np.zeros((1, 4), np.float32)}, 1, 1 << 60)
