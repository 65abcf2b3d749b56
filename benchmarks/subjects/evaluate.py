"""The float metrics of subjects, and what a model file looks like."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.subjects.subject import FloatMetric, Samples

_BATCH = 50


def first_output(model: Path, samples: Samples, batch: int = _BATCH) -> np.ndarray:
    """The model's first output for all samples, run in batches."""
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, len(samples), batch):
        feeds = {name: array[start : start + batch] for name, array in samples.inputs.items()}
        parts.append(session.run(None, feeds)[0])
    return np.concatenate(parts)


def top1(model: Path, samples: Samples) -> float:
    """The share of samples whose largest first output is their label, in percent."""
    right = np.sum(first_output(model, samples).argmax(axis=1) == samples.labels)
    return round(100 * int(right) / len(samples), 2)


def perplexity(model: Path, samples: Samples) -> float:
    """The exponential of the mean negative log-likelihood of the labels under the first output."""
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    logits = session.get_outputs()[0].name
    lost = 0.0
    for row, labels in enumerate(samples.labels):
        feeds = {name: array[row : row + 1] for name, array in samples.inputs.items()}
        scores = session.run([logits], feeds)[0][0].astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        own = np.take_along_axis(scores, labels[:, None], axis=-1)[:, 0]
        lost += float(np.sum(np.log(np.exp(scores).sum(axis=-1)) - own))
    return round(math.exp(lost / samples.labels.size), 3)


TOP1 = FloatMetric(name="top-1", unit="%", value=top1)
PERPLEXITY = FloatMetric(name="perplexity", unit="", value=perplexity, judged_by="perplexity")


def describe(model: Path) -> dict[str, Any]:
    """Size, opset, nodes by op type, inputs and outputs of a model file, ready for JSON."""
    proto = onnx.load(model, load_external_data=False)
    return {
        "bytes": model.stat().st_size,
        "ir_version": proto.ir_version,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "nodes": len(proto.graph.node),
        "ops": dict(Counter(node.op_type for node in proto.graph.node).most_common()),
        "inputs": {value.name: _value_type(value) for value in proto.graph.input},
        "outputs": {value.name: _value_type(value) for value in proto.graph.output},
    }


def _value_type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
    return f"{onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name}[{dims}]"
