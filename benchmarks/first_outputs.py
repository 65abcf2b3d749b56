"""Writes the first output of a model for the first samples of an .npz file: a program to emulate.

``python -m benchmarks.first_outputs MODEL DATA.npz COUNT OUTPUT.npy`` imports nothing but numpy and
onnxruntime, so that an emulator has little else to translate.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort


def first_outputs(model: str, data: str, count: int) -> np.ndarray:
    """The first output, [count, ...], sample by sample on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(data, allow_pickle=False) as arrays:
        samples = {each.name: arrays[each.name][:count] for each in session.get_inputs()}
    rows = []
    for index in range(count):
        feed = {name: values[index : index + 1] for name, values in samples.items()}
        rows.append(session.run(None, feed)[0])
    return np.concatenate(rows)


if __name__ == "__main__":
    np.save(sys.argv[4], first_outputs(sys.argv[1], sys.argv[2], int(sys.argv[3])))
