"""One onnxruntime session: typed inputs and outputs, settings that are told, errors of our own."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort

from onnxcompress.api_errors import out_of_memory
from onnxcompress.errors import SessionError
from onnxcompress.ir import elements
from onnxcompress.watching import Step

ONNXRUNTIME_VERSION: Final[str] = ort.__version__

# What onnxruntime calls an element type ("float8e4m3fn") is ONNX's name for it in small letters.
_ELEMENTS: Final[Mapping[str, int]] = {
    name.lower(): value
    for name, value in onnx.TensorProto.DataType.items()
    if value != onnx.TensorProto.UNDEFINED
}
# onnxruntime's numpy bridge does not know these: they come and go as float32, which holds them all.
_NARROW: Final = frozenset(
    {"bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"}
)
_TENSOR_TYPE = re.compile(r"tensor\((\w+)\)")
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE_LINE = re.compile(r"/onnxruntime_src/\S+:\d+ ")
_NO_MEMORY = re.compile("bad_alloc|Failed to allocate memory|std::length_error")
_NO_MEANING = ("Stacktrace", "Please fix either", "The above exception")
_LONGEST_MESSAGE = 400
# Errors come back as exceptions, so onnxruntime's own copy of them on stderr says nothing new.
_LOG_FATAL = 4


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a model is run; two models are only compared under equal settings.

    Attributes:
        threads: threads within one operator; operators always run one after the other.
        optimize: all of onnxruntime's graph optimizations, or none.
        prepack: whether kernels may keep a rearranged copy of their weights.
        spin: whether threads that wait keep a core busy: for a while after each run they slow down
            whatever else the process computes.
        profile_to: start of the path of the profile that `Session.end_profiling` completes.
        save_optimized_to: where to write the graph that onnxruntime really runs; its weights go
            beside it, in a file of the same name with `.data` at its end.
        weights_beside: False keeps them in the file, which then holds 2 GiB at most.
    """

    threads: int = 1
    optimize: bool = True
    prepack: bool = True
    spin: bool = True
    profile_to: Path | None = None
    save_optimized_to: Path | None = None
    weights_beside: bool = True


@dataclass(frozen=True, kw_only=True)
class TensorSignature:
    """What a model says of one of its inputs or outputs.

    Attributes:
        name: the tensor's name.
        dtype: its numpy type; `object` for strings and for what is not a tensor.
        shape: a number, a symbol or None (any size) for each axis; `()` is a scalar or a tensor of
            unknown rank, which onnxruntime does not tell apart.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]


class Session:
    """A model loaded by onnxruntime for the CPU.

    Args:
        source: a model file, or a serialized ModelProto without external data.
        settings: how to run it.

    Raises:
        SessionError: onnxruntime refuses the model.
    """

    def __init__(self, source: Path | bytes, settings: SessionSettings | None = None) -> None:
        self._model = "the model" if isinstance(source, bytes) else str(source)
        self.settings = settings or SessionSettings()
        if not _is_text(self._model):
            raise SessionError(
                f"{self._model!r}: its name is no UTF-8, so onnxruntime cannot open it"
            )
        self._running = Step(f"running {self._model}")
        began = time.perf_counter()
        try:
            with Step(f"loading {self._model}"):
                self._ort = ort.InferenceSession(
                    source if isinstance(source, bytes) else str(source),
                    _options(self.settings),
                    providers=["CPUExecutionProvider"],
                )
        except Exception as fault:
            raise SessionError(f"onnxruntime cannot load {self._model}: {_told(fault)}") from fault
        self._load_seconds = time.perf_counter() - began
        self._inputs = tuple(_signature(value) for value in self._ort.get_inputs())
        self._outputs = tuple(_signature(value) for value in self._ort.get_outputs())
        self._kinds = {
            value.name: _element_name(value.type)
            for value in (*self._ort.get_inputs(), *self._ort.get_outputs())
        }

    @property
    def inputs(self) -> tuple[TensorSignature, ...]:
        """What must be fed; initializers that may be overridden are not among them."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSignature, ...]:
        """What the model gives, in its own order."""
        return self._outputs

    @property
    def load_seconds(self) -> float:
        """Wall time that onnxruntime took to read, optimize and prepare the model."""
        return self._load_seconds

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the model once.

        Args:
            feeds: an array for every input, of the input's dtype.
            outputs: names of the outputs wanted; None means all of them.

        Returns:
            Arrays by output name. An output that is no tensor comes as an array of objects: a
            sequence with one axis, a map or an empty optional as a scalar.

        Raises:
            SessionError: onnxruntime refuses the feeds or fails in a node.
        """
        names = [output.name for output in self._outputs] if outputs is None else list(outputs)
        narrow = any(self._kinds.get(name) in _NARROW for name in (*feeds, *names))
        try:
            with self._running:
                values = self._run_carried(feeds, names) if narrow else self._ort.run(names, feeds)
        except Exception as fault:
            raise SessionError(f"onnxruntime cannot run {self._model}: {_told(fault)}") from fault
        return {name: _as_array(value) for name, value in zip(names, values, strict=True)}

    def end_profiling(self) -> Path:
        """Closes the profile and returns its path.

        Raises:
            SessionError: the session was made without `profile_to`.
        """
        if self.settings.profile_to is None:
            raise SessionError(f"{self._model} was loaded without profile_to, so has no profile")
        return Path(self._ort.end_profiling())

    def _run_carried(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
        values = {name: self._carry(name, array) for name, array in feeds.items()}
        results = self._ort.run_with_ort_values(names, values)
        return [self._uncarry(name, value) for name, value in zip(names, results, strict=True)]

    def _carry(self, name: str, array: np.ndarray) -> Any:
        kind = self._kinds.get(name, "")
        if kind not in _NARROW:
            return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        wanted = elements.dtype_of(_ELEMENTS[kind])
        if array.dtype != wanted:
            raise TypeError(f"input {name!r} is {array.dtype}, expected {wanted}")
        wide = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array, np.float32))
        caster = _caster(onnx.TensorProto.FLOAT, _ELEMENTS[kind], array.ndim)
        return caster.run_with_ort_values(["y"], {"x": wide})[0]

    def _uncarry(self, name: str, value: Any) -> np.ndarray:
        kind = self._kinds[name]
        if kind not in _NARROW:
            array: np.ndarray = value.numpy()
            return array
        # OrtValue.numpy() knows few of these; widening is exact, following a pointer a hazard.
        caster = _caster(_ELEMENTS[kind], onnx.TensorProto.FLOAT, len(value.shape()))
        widened: np.ndarray = caster.run_with_ort_values(["y"], {"x": value})[0].numpy()
        return widened.astype(elements.dtype_of(_ELEMENTS[kind]))


@cache
def _caster(given: int, wanted: int, rank: int) -> ort.InferenceSession:
    """A model of one Cast between ONNX types, for tensors of `rank` axes; infinities stay."""
    axes = [None] * rank
    into_8_bits = onnx.TensorProto.DataType.Name(wanted).startswith("FLOAT8")
    unbounded: dict[str, Any] = {"saturate": 0} if into_8_bits else {}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", ["x"], ["y"], to=wanted, **unbounded)],
        "cast",
        [onnx.helper.make_tensor_value_info("x", given, axes)],
        [onnx.helper.make_tensor_value_info("y", wanted, axes)],
    )
    opset = [onnx.helper.make_opsetid("", 19)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    return ort.InferenceSession(
        model.SerializeToString(), _options(SessionSettings()), providers=["CPUExecutionProvider"]
    )


def _options(settings: SessionSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if settings.optimize else levels.ORT_DISABLE_ALL
    )
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    if not settings.prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if not settings.spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if settings.profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.profile_to)
    if settings.save_optimized_to is not None:
        options.optimized_model_filepath = str(settings.save_optimized_to)
    if settings.save_optimized_to is not None and settings.weights_beside:
        # A protobuf holds 2 GiB at most, and the graph is what readers of this file want.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name",
            f"{settings.save_optimized_to.name}.data",
        )
    return options


def _is_text(name: str) -> bool:
    """Whether a path has no bytes that stand for no letters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _element_name(ort_type: str) -> str:
    """`float16` for `tensor(float16)`; empty for what is not a tensor."""
    match = _TENSOR_TYPE.fullmatch(ort_type)
    return match[1] if match else ""


def _signature(value: Any) -> TensorSignature:
    element = _ELEMENTS.get(_element_name(value.type))
    dtype = np.dtype(object)
    if element is not None:
        dtype = elements.dtype_of(element)
    return TensorSignature(name=value.name, dtype=dtype, shape=tuple(value.shape or ()))


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list):
        array = np.empty(len(value), dtype=object)
        for index, item in enumerate(value):
            array[index] = item
        return array
    scalar = np.empty((), dtype=object)
    scalar[()] = value
    return scalar


def _told(fault: Exception) -> str:
    """What onnxruntime says, in one line without its codes and source paths."""
    if isinstance(fault, MemoryError) or _NO_MEMORY.search(str(fault)):
        return out_of_memory()
    text = _SOURCE_LINE.sub("", _CODE.sub("", str(fault)))
    lines = []
    for line in text.splitlines():
        if line.strip().startswith(_NO_MEANING):
            break
        if line.strip():
            lines.append(line.strip())
    message = " ".join(lines) or type(fault).__name__
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}..."
    return message
