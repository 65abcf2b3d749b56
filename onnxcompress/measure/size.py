"""What a model takes: bytes on disk, seconds to load, memory to run."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message

from onnxcompress.errors import ModelError, SessionError
from onnxcompress.ir.external import may_hold
from onnxcompress.leftovers import working_folder
from onnxcompress.runtime.child import run_module
from onnxcompress.runtime.session import Session, SessionSettings

_PROBE: Final = "onnxcompress.measure.memory_probe"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a model takes.

    Attributes:
        file_bytes: of the model file and its external data.
        load_seconds: until onnxruntime is ready, the median of a few times.
        peak_memory_bytes: the most that loading it and one run held at once in a process of its
            own, above Python, onnxruntime and the feed; None where that could not be measured.
        memory_fault: why it could not.
    """

    file_bytes: int
    load_seconds: float
    peak_memory_bytes: int | None
    memory_fault: str = ""


def measure_size(
    path: Path,
    feed: Mapping[str, np.ndarray] | None = None,
    settings: SessionSettings | None = None,
) -> Size:
    """Measures all three; without a feed, memory is that of loading alone.

    Raises:
        ModelError: the file cannot be read, or its external data are missing.
        SessionError: onnxruntime cannot load it.
    """
    size = Size(
        file_bytes=file_bytes(path),
        load_seconds=load_seconds(path, settings),
        peak_memory_bytes=None,
    )
    try:
        return replace(size, peak_memory_bytes=peak_memory_bytes(path, feed, settings))
    except SessionError as fault:  # one figure less is no reason to lose the others
        return replace(size, memory_fault=str(fault))


def file_bytes(path: Path) -> int:
    """Bytes of a model file and of each file that its tensors refer to, counted once.

    Raises:
        ModelError: a file is missing, not a model, or lies outside the model's folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as fault:
        raise ModelError(f"{path}: cannot be read as an ONNX model ({fault})") from fault
    files = {path.resolve()}
    for location in {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }:
        file = (path.parent / location).resolve()
        if not may_hold(path, location, file):
            raise ModelError(f"{path}: external data {location!r} lie outside the model's folder")
        if not file.is_file():
            raise ModelError(f"{path}: external data file {location!r} is missing beside it")
        files.add(file)
    return sum(file.stat().st_size for file in files)


def load_seconds(path: Path, settings: SessionSettings | None = None, *, repeats: int = 3) -> float:
    """Seconds until onnxruntime is ready, the median of `repeats` times.

    Raises:
        SessionError: onnxruntime cannot load the model.
    """
    return statistics.median(Session(path, settings).load_seconds for _ in range(repeats))


def peak_memory_bytes(
    path: Path,
    feed: Mapping[str, np.ndarray] | None = None,
    settings: SessionSettings | None = None,
    *,
    timeout_seconds: float = 600.0,
) -> int:
    """The most memory that loading a model and one run hold at once, in a fresh process.

    Args:
        path: the model.
        feed: an array for every input; None to load only.
        settings: threads, optimizations and prepacking are taken over.
        timeout_seconds: how long to wait for the process.

    Raises:
        SessionError: onnxruntime cannot load or run it, or the process ended without an answer.
    """
    chosen = settings or SessionSettings()
    options = ["--threads", str(chosen.threads)]
    options += [] if chosen.optimize else ["--no-optimize"]
    options += [] if chosen.prepack else ["--no-prepack"]
    with working_folder() as folder:
        if feed is not None:
            # By number: names of inputs are not always names of files.
            arrays = {f"a{number}": _plain(array) for number, array in enumerate(feed.values())}
            # Without `allow_pickle`, which numpy 1.26 would store as one array more.
            np.savez(Path(folder, "feed.npz"), **arrays)  # type: ignore[arg-type]
            names = msgspec.json.encode(list(feed))
            Path(folder, "names.json").write_bytes(names)
            options += ["--feed", str(folder)]
        try:
            arguments = [*options, "--", str(path)]
            done = run_module(_PROBE, arguments, timeout_seconds=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise SessionError(
                f"{path}: no run within {timeout_seconds:.0f} s while measuring memory"
            ) from None
        except OSError as fault:
            raise SessionError(f"{path}: memory was not measured: {fault.strerror}") from fault
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed, perhaps for want of memory"])[
            -1
        ]
        raise SessionError(f"{path}: memory was not measured: {last}")
    try:
        return int(done.stdout)
    except ValueError:  # something else wrote there too
        raise SessionError(f"{path}: memory was not measured: {done.stdout[:100]!r}") from None


def _plain(array: np.ndarray) -> np.ndarray:
    """Text comes as objects, which are not written without pickling."""
    return array.astype(str) if array.dtype.kind == "O" else array


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, wherever it stands: initializers, attributes, inner graphs."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _tensors(inner)
