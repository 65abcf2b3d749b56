"""Run as a program: loads a model, runs it once, and writes how many bytes that took at most."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import psutil

from onnxcompress.errors import OnnxCompressError
from onnxcompress.runtime.session import Session, SessionSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the bytes to standard output; if it fails, one line to standard error, returning 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-optimize", dest="optimize", action="store_false")
    parser.add_argument("--no-prepack", dest="prepack", action="store_false")
    parser.add_argument("--feed", type=Path, help="folder of feed.npz and names.json")
    options = parser.parse_args(arguments)
    settings = SessionSettings(
        threads=options.threads, optimize=options.optimize, prepack=options.prepack
    )
    feed = None if options.feed is None else _read_feed(options.feed)
    before = resident_bytes()
    try:
        session = Session(options.model, settings)
        if feed is not None:
            session.run({t.name: _typed(feed[t.name], t.dtype) for t in session.inputs})
    except OnnxCompressError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    sys.stdout.write(f"{max(peak_resident_bytes() - before, 0)}\n")
    return 0


def resident_bytes() -> int:
    """Memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most memory that this process ever held.

    Linux's `ru_maxrss` would not do: a child starts with that of its parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return _max_rss() if on_windows is None else int(on_windows)


def _max_rss() -> int:
    if sys.platform == "win32":
        return resident_bytes()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read_feed(folder: Path) -> dict[str, np.ndarray]:
    names = msgspec.json.decode((folder / "names.json").read_bytes(), type=list[str])
    with np.load(folder / "feed.npz", allow_pickle=False) as arrays:
        return {name: arrays[f"a{number}"] for number, name in enumerate(names)}


def _typed(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An .npz file keeps the bytes of ml_dtypes' types and text without its type."""
    if dtype.kind == "O":
        return array.astype(object)
    return array.view(dtype) if array.dtype.kind == "V" else array


if __name__ == "__main__":
    sys.exit(main())
