"""Exports of the table's models, each made once in a test session."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from .specification import Architecture, Exporter

OUTPUT = "result"

_FOLDS: Mapping[Exporter, bool] = {Exporter.TRACED: True, Exporter.TRACED_UNFOLDED: False}


class Exports:
    """A folder that fills as models are asked for."""

    def __init__(self, folder: Path):
        self._folder = folder

    def path(self, architecture: Architecture, exporter: Exporter) -> Path:
        """The file of one export, written on the first call."""
        path = self._folder / f"{architecture.name}.{exporter.value}.onnx"
        if not path.is_file():
            with _quiet():
                if exporter.dynamo:
                    self._export_dynamo(architecture)
                else:
                    _trace(architecture, path, fold=_FOLDS[exporter])
        return path

    def _export_dynamo(self, architecture: Architecture) -> None:
        """Writes both: the program before and after torch optimizes it."""
        dims = {
            name: torch.export.Dim(name)
            for each in architecture.inputs
            for name in each.open_axes.values()
        }
        program = torch.onnx.export(
            architecture.module(),
            _example(architecture),
            input_names=[each.name for each in architecture.inputs],
            output_names=[OUTPUT],
            dynamic_shapes=tuple(
                {axis: dims[name] for axis, name in each.open_axes.items()}
                for each in architecture.inputs
            ),
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        stem = self._folder / architecture.name
        program.save(f"{stem}.{Exporter.DYNAMO_UNOPTIMIZED.value}.onnx")
        program.optimize()
        program.save(f"{stem}.{Exporter.DYNAMO.value}.onnx")


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of their future, of Python values they fix, of missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _trace(architecture: Architecture, path: Path, *, fold: bool) -> None:
    torch.onnx.export(
        architecture.module(),
        _example(architecture),
        path,
        input_names=[each.name for each in architecture.inputs],
        output_names=[OUTPUT],
        dynamic_axes={each.name: each.open_axes for each in architecture.inputs},
        opset_version=17,
        do_constant_folding=fold,
        dynamo=False,
    )


def _example(architecture: Architecture) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.from_numpy, architecture.feeds(3, sequence=5).values()))
