"""Runs passes one after another: run, clean, sort, verify, report; roll back what fails."""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import Enum

from onnxcompress.clean import remove_unused
from onnxcompress.errors import OnnxCompressError, PassError
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Action, Change, Editor, Skip
from onnxcompress.ir.model import Model
from onnxcompress.ir.opset import require_opset
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.runtime.check import RunCheck
from onnxcompress.runtime.context import RuntimeContext


class OnError(Enum):
    """What happens after a failing pass was rolled back."""

    STOP = "stop"
    SKIP = "skip"


class PassManager:
    """Applies passes to a model in place.

    Args:
        passes: in this order.
        on_error: stop with `PassError`, or go on with the next pass from where the model was.
    """

    def __init__(self, passes: Iterable[Pass], *, on_error: OnError = OnError.STOP):
        self.passes = tuple(passes)
        self.on_error = on_error

    def run(self, model: Model, context: RuntimeContext | None = None) -> list[PassReport]:
        """Runs every pass; after each, the model is sorted, valid, and loads and runs.

        Args:
            model: edited in place; if a pass fails it is left as it was before that pass.
            context: data, target and caches; without one, passes that need data fail.

        Returns:
            One report for each pass, in order.

        Raises:
            PassError: a pass failed and `on_error` is STOP; names the pass and those before it.
        """
        context = context or RuntimeContext()
        if context.original_model is None:
            context = context.with_original_model(clone(model))
        sort(model.graph)  # onnxruntime takes unsorted graphs; passes follow the node order
        check = RunCheck(model, context)
        reports: list[PassReport] = []
        for pass_ in self.passes:
            float_model = None if _is_quantized(model) else clone(model)
            if pass_.prunes and context.unpruned_model is None:
                context = context.with_unpruned_model(clone(model))
            report = self._run_one(pass_, model, context, check)
            reports.append(report)
            if float_model is not None and _is_quantized(model):
                context = context.with_float_model(float_model)
            if report.error is not None and self.on_error is OnError.STOP:
                done = ", ".join(earlier.name for earlier in reports[:-1]) or "none"
                raise PassError(
                    f"pass {report.name!r} failed and was rolled back: {report.error} "
                    f"(passes done before it: {done})"
                )
        return reports

    def _run_one(
        self, pass_: Pass, model: Model, context: RuntimeContext, check: RunCheck
    ) -> PassReport:
        start = time.perf_counter()
        before = clone(model)
        edit = Editor(model)
        error = None
        verification = "unchanged"
        try:
            raised = require_opset(model, _required_opset(pass_))
            if raised:
                check.raised(before, model)
                edit = Editor(model)
            pass_.run(model, edit, context)
            edit.finish()
            if raised and not edit.modified:  # nothing needed it
                model.graph, model.envelope = before.graph, before.envelope
            elif raised:
                detail = f"raised from opset {before.opset} to {model.opset}"
                edit.changes.insert(0, Change(Action.CHANGED, model.graph.name, "graph", detail))
            if edit.modified:
                remove_unused(model, edit)
                sort(model.graph)
                verify(model)
                verification = check.after(model, exact=pass_.exact)
        except OnnxCompressError as fault:
            error = str(fault)
        except Exception as fault:  # a bug in a pass must not take the user's model with it
            error = f"{type(fault).__name__}: {fault}"
        if error is not None:
            model.graph, model.envelope = before.graph, before.envelope
            verification = "rolled back"
        return PassReport(
            name=pass_.name,
            changes=tuple(edit.changes),
            skips=(*edit.skips, *_unmatched(pass_, before)),
            nodes_before=_count(before),
            nodes_after=_count(model),
            bytes_before=before.weight_bytes,
            bytes_after=model.weight_bytes,
            seconds=time.perf_counter() - start,
            verification=verification,
            error=error,
        )


def _required_opset(pass_: Pass) -> int:
    """What the pass needs, whichever of its options hold for a node."""
    others = [override.options for override in pass_.overrides if override.options is not None]
    return max(each.required_opset() for each in (pass_, *others))


def _unmatched(pass_: Pass, model: Model) -> list[Skip]:
    """Overrides that mean no node of the model: most likely a misspelt name."""
    nodes = [node for _, node in model.nodes()]
    return [
        Skip(", ".join((*override.nodes, *override.op_types)), "override", "matches no node")
        for override in pass_.overrides
        if not any(override.names(node) or node.op in override.op_types for node in nodes)
    ]


def _count(model: Model) -> int:
    return sum(1 for _ in model.nodes())


def _is_quantized(model: Model) -> bool:
    return any(node.op == "DequantizeLinear" for node in model.graph.nodes)
