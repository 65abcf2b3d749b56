"""Before any work: no file that a command reads is one that it writes, and all can be written."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from onnxcompress.errors import ModelError
from onnxcompress.files import check_outputs
from onnxcompress.ir import io

_MODELS = ("model", "models")
_READ = ("data", "training", "recipe", "report")
_WRITTEN = ("output", "json", "calibration")


def check_files(arguments: argparse.Namespace) -> None:
    """Checks the files that a command's arguments name, and those that its models refer to.

    Raises:
        OutputError: an output is an input, or another output, or cannot be written.
    """
    outputs = list(_given(arguments, _WRITTEN))
    if "output" in arguments and "model" in arguments:
        outputs.append(io.data_file(arguments.output))
    check_outputs(outputs, _inputs(arguments))


def _inputs(arguments: argparse.Namespace) -> Iterator[Path]:
    for path in _given(arguments, _READ):
        yield path
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file())
    for path in _given(arguments, _MODELS):
        yield path
        with suppress(ModelError):  # told by who needs the model
            yield from io.load(path).files


def _given(arguments: argparse.Namespace, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        value = getattr(arguments, name, None)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                yield Path(each)
