"""Loads and runs files with the onnxruntime at hand.

A script of its own, run as `python runtime_probe.py FOLDER RESULTS` in environments that hold
onnxruntime and numpy alone. A file `x.onnx` is fed what `x.npz` holds; without one it is loaded.
`RESULTS/x.npz` then holds its outputs by name, and `RESULTS/told.json` why files failed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

_FATAL = 4


def probe(model: Path, results: Path) -> str:
    """Why a file fails; nothing if it does not."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        feeds = model.with_suffix(".npz")
        if feeds.exists():
            with np.load(feeds) as arrays:
                values = session.run(None, dict(arrays))
            names = [output.name for output in session.get_outputs()]
            np.savez(results / feeds.name, **dict(zip(names, values, strict=True)))
    except Exception as fault:  # whatever onnxruntime raises, of whichever release
        return str(fault).splitlines()[0] or type(fault).__name__
    return ""


def main(folder: str, results: str) -> None:
    """Probes all files of a folder."""
    onnxruntime.set_default_logger_severity(_FATAL)
    Path(results).mkdir(parents=True, exist_ok=True)
    told = {path.stem: probe(path, Path(results)) for path in sorted(Path(folder).glob("*.onnx"))}
    Path(results, "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
