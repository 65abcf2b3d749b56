"""Make an exported ONNX model smaller and faster, within an accuracy budget, with the proof.

>>> import onnxcompress
>>> report = onnxcompress.compress("model.onnx", "small.onnx", data="data.npz")  # doctest: +SKIP
>>> print(report.verdict)  # doctest: +SKIP

Names are imported when they are first used, so that `import onnxcompress` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxcompress.errors import OnnxCompressError as OnnxCompressError
    from onnxcompress.inspection import inspect_model as inspect_model
    from onnxcompress.ir.io import load as load
    from onnxcompress.ir.io import save as save
    from onnxcompress.ir.model import Model as Model
    from onnxcompress.pass_base import Context as Context
    from onnxcompress.pass_base import Pass as Pass
    from onnxcompress.pass_base import PassReport as PassReport
    from onnxcompress.pass_manager import OnError as OnError
    from onnxcompress.pass_manager import PassManager as PassManager
    from onnxcompress.recipe import Recipe as Recipe
    from onnxcompress.report.schema import BenchReport as BenchReport
    from onnxcompress.report.schema import CompressReport as CompressReport
    from onnxcompress.report.schema import SensitivityReport as SensitivityReport
    from onnxcompress.runtime.context import RuntimeContext as RuntimeContext
    from onnxcompress.search.bench import benchmark as benchmark
    from onnxcompress.search.candidates import Goal as Goal
    from onnxcompress.search.compress import compress as compress
    from onnxcompress.search.schedule import Iteration as Iteration
    from onnxcompress.search.schedule import Schedule as Schedule
    from onnxcompress.sensitivity.analysis import analyze_sensitivity as analyze_sensitivity
    from onnxcompress.sensitivity.assignment import Assignment as Assignment
    from onnxcompress.sensitivity.assignment import assign as assign
    from onnxcompress.target import Target as Target

_HOMES = {
    "Assignment": "onnxcompress.sensitivity.assignment",
    "BenchReport": "onnxcompress.report.schema",
    "CompressReport": "onnxcompress.report.schema",
    "Context": "onnxcompress.pass_base",
    "Goal": "onnxcompress.search.candidates",
    "Iteration": "onnxcompress.search.schedule",
    "Model": "onnxcompress.ir.model",
    "OnError": "onnxcompress.pass_manager",
    "OnnxCompressError": "onnxcompress.errors",
    "Pass": "onnxcompress.pass_base",
    "PassManager": "onnxcompress.pass_manager",
    "PassReport": "onnxcompress.pass_base",
    "Recipe": "onnxcompress.recipe",
    "RuntimeContext": "onnxcompress.runtime.context",
    "Schedule": "onnxcompress.search.schedule",
    "SensitivityReport": "onnxcompress.report.schema",
    "Target": "onnxcompress.target",
    "analyze_sensitivity": "onnxcompress.sensitivity.analysis",
    "assign": "onnxcompress.sensitivity.assignment",
    "benchmark": "onnxcompress.search.bench",
    "compress": "onnxcompress.search.compress",
    "inspect_model": "onnxcompress.inspection",
    "load": "onnxcompress.ir.io",
    "save": "onnxcompress.ir.io",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
