"""Exports architectures, each in a process of its own, so that one that fails ends no other."""

from __future__ import annotations

import inspect
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from torch import nn

from benchmarks.zoo.apart import ApartError, apart
from benchmarks.zoo.inputs import Input
from benchmarks.zoo.specimen import SIZES
from benchmarks.zoo.table import SPECIMENS
from onnxcompress.runtime.session import Session

TIMEOUT: Final = 300
"""Seconds for one export."""


class Exporter(Enum):
    """A way from torch to ONNX; each leaves another graph of one and the same module."""

    TRACED = "traced"
    DYNAMO = "dynamo"


class Built(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an export.

    Attributes:
        specimen: the architecture.
        exporter: who exported it.
        fixed: why the file has no open axes: what the exporter said when it was asked for them.
        failure: why there is no file.
    """

    specimen: str
    exporter: Exporter
    fixed: str = ""
    failure: str = ""

    @property
    def name(self) -> str:
        """Of its files, without what follows the last dot."""
        return f"{self.specimen}.{self.exporter.value}"


def model_path(folder: Path, specimen: str, exporter: Exporter) -> Path:
    """The exported file; `.json` instead of `.onnx` says how that went."""
    return folder / f"{specimen}.{exporter.value}.onnx"


def build(folder: Path, specimen: str, exporter: Exporter, timeout: float = TIMEOUT) -> Built:
    """Exports an architecture, unless that was done or tried before.

    Args:
        folder: of the zoo.
        specimen: a name of the table.
        exporter: who is to do it.
        timeout: seconds for each of two tries: with open axes, then without.
    """
    path = model_path(folder, specimen, exporter)
    told = path.with_suffix(".json")
    if told.is_file():
        return msgspec.json.decode(told.read_bytes(), type=Built)
    folder.mkdir(parents=True, exist_ok=True)
    fixed = _export(path, specimen, exporter, timeout, is_open=True)
    failure = _export(path, specimen, exporter, timeout, is_open=False) if fixed else ""
    built = Built(specimen=specimen, exporter=exporter, fixed=fixed, failure=failure)
    told.write_bytes(msgspec.json.encode(built))
    return built


def _export(path: Path, specimen: str, exporter: Exporter, timeout: float, *, is_open: bool) -> str:
    """Returns why it failed; empty if it did not."""
    draft = path.with_suffix(".draft")
    try:
        apart(export, specimen, exporter, draft, is_open, timeout=timeout)
    except ApartError as fault:
        return str(fault)
    draft.rename(path)
    return ""


def export(specimen: str, exporter: Exporter, path: Path, is_open: bool) -> None:
    """Exports an architecture in this process, and checks the file against torch.

    Raises:
        ValueError: onnxruntime computes something else.
    """
    torch.set_num_threads(1)
    found = SPECIMENS[specimen]
    module = found.module()
    feeds = found.feeds(SIZES["batch"] if is_open else 1)
    example = tuple(map(torch.from_numpy, feeds.values()))
    with torch.inference_mode():
        expected = module(*example)
    options: dict[str, Any] = {
        "input_names": [each.name for each in found.inputs],
        "output_names": list(found.outputs),
    }
    if exporter is Exporter.DYNAMO:
        if is_open:
            options["dynamic_shapes"] = _dynamic_shapes(module, found.inputs)
        torch.onnx.export(
            module, example, path, dynamo=True, external_data=False, verbose=False, **options
        )
    else:
        axes = {each.name: each.open_axes for each in found.inputs} if is_open else None
        torch.onnx.export(
            module, example, path, dynamo=False, opset_version=17, dynamic_axes=axes, **options
        )
    tensors = [expected] if isinstance(expected, torch.Tensor) else expected
    actual = Session(path).run(feeds)
    for name, tensor in zip(found.outputs, tensors, strict=True):
        scale = float(tensor.abs().max())
        error = float(np.abs(actual[name] - tensor.numpy()).max())
        if not error <= 1e-3 * scale:
            raise ValueError(f"output {name!r} is off by {error:.2g} of {scale:.2g}")


def _dynamic_shapes(module: nn.Module, inputs: tuple[Input, ...]) -> tuple[Any, ...]:
    """As torch.export takes them: those of `*arguments` are a tuple in the tuple."""
    shapes = [dict.fromkeys(each.open_axes, torch.export.Dim.DYNAMIC) for each in inputs]
    parameters = inspect.signature(module.forward).parameters.values()
    named = sum(each.kind is not inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return (*shapes[:named], *([tuple(shapes[named:])] if len(parameters) > named else []))
