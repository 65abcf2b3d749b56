"""What exporters write of their own run: stack traces, with paths of somebody's machine."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import onnx

from onnxcompress.ir.model import Constant, Model

_PREFIXES: Final = ("pkg.torch.", "pkg.onnxscript.")
"""Keys under which exporters keep what they need to be debugged."""

_WORDS: Final = ("stack_trace", "stacktrace", "traceback")

_TRACE: Final = re.compile(r'File "[^"]+", line \d+|(^|[\s#(])(/|[A-Za-z]:\\)\S+\.py[:(]\d+')
"""A line of a stack trace, as Python or PyTorch's older exporter writes it."""


_Message = TypeVar(
    "_Message",
    onnx.NodeProto,
    onnx.GraphProto,
    onnx.ValueInfoProto,
    onnx.TensorProto,
    onnx.FunctionProto,
    onnx.ModelProto,
)


def drop_traces(model: Model) -> int:
    """Removes stack traces and debugging entries from all of a model.

    Metadata of other keys stay, so do doc strings that hold no stack trace.

    Returns:
        How many entries and doc strings were removed.
    """
    cleaner = _Cleaner()
    model.envelope = cleaner.clean(model.envelope)
    for function in model.envelope.functions:
        function.CopyFrom(cleaner.clean(function))
        for node in function.node:
            node.CopyFrom(cleaner.clean(node))
    for graph in model.graphs():
        graph.envelope = cleaner.clean(graph.envelope)
        graph.doc_string = graph.envelope.doc_string
        for tensor in (*graph.inputs, *graph.outputs, *graph.initializers):
            if isinstance(tensor, Constant):
                tensor.envelope = cleaner.optional(tensor.envelope)
            else:
                tensor.envelope = cleaner.optional(tensor.envelope)
        for node in graph.nodes:
            node.envelope = cleaner.optional(node.envelope)
            for output in node.outputs:
                output.envelope = cleaner.optional(output.envelope)
    return cleaner.removed


class _Cleaner:
    """Makes copies without traces where there are some: clones of a model share messages."""

    def __init__(self) -> None:
        self.removed = 0

    def optional(self, message: _Message | None) -> _Message | None:
        """Likewise, of what need not be there."""
        return None if message is None else self.clean(message)

    def clean(self, message: _Message) -> _Message:
        """The message itself, or a copy without its traces."""
        kept = [each for each in message.metadata_props if not _is_trace(each)]
        removed = len(message.metadata_props) - len(kept)
        traced = bool(_TRACE.search(message.doc_string))
        if not removed and not traced:
            return message
        self.removed += removed + traced
        copy = type(message)()
        copy.CopyFrom(message)
        copy.ClearField("metadata_props")
        copy.metadata_props.extend(kept)
        if traced:
            copy.ClearField("doc_string")
        return copy


def _is_trace(entry: onnx.StringStringEntryProto) -> bool:
    if entry.key.startswith(_PREFIXES) or any(word in entry.key.lower() for word in _WORDS):
        return True
    return bool(_TRACE.search(entry.value))
