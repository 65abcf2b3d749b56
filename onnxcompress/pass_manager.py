"""Runs passes one after another: run, clean, sort, verify, report; roll back what fails."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from onnxcompress.api_errors import as_own, own_errors
from onnxcompress.clean import remove_unused
from onnxcompress.errors import ModelError, OnnxCompressError, PassError
from onnxcompress.ir import query
from onnxcompress.ir.clone import clone
from onnxcompress.ir.defaults import freeze, replaceable_weight
from onnxcompress.ir.edit import Action, Change, Editor, Skip
from onnxcompress.ir.model import Model, Tensor
from onnxcompress.ir.opset import require_opset
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from onnxcompress.ir.views import ANY_FLOAT, WIDE, Lifted
from onnxcompress.pass_base import EXCLUDED, Context, Override, Pass, PassReport
from onnxcompress.releases import Release, last_opset, why_not_on
from onnxcompress.runtime.check import RunCheck
from onnxcompress.runtime.context import RuntimeContext

_MOST_RUNS = 4
"""Times that a pass runs, each without nodes whose weights would stay beside what it packed."""


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

    @own_errors
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
        context = context.setting_aside(self.passes)
        sort(model.graph)  # onnxruntime takes unsorted graphs; passes follow the node order
        check = RunCheck(model, context)
        reports: list[PassReport] = []
        for pass_ in (each.everywhere(_on(context.release)) for each in self.passes):
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
        beside: Mapping[str, str] = {}
        error = None
        verification = "unchanged"
        try:
            frozen = _frozen(model, context)
            raised = _raise_opset(pass_, model, context)
            if raised:
                check.raised(before, model)
            edit, beside = apply_pass(pass_, model, context)
            if (frozen or raised) and not edit.modified:  # nothing needed it
                model.graph, model.envelope = before.graph, before.envelope
            elif frozen or raised:
                raising = f"raised from opset {before.opset} to {model.opset}" if raised else ""
                detail = "; ".join(filter(None, (raising, frozen)))
                edit.changes.insert(0, Change(Action.CHANGED, model.graph.name, "graph", detail))
            if edit.modified:
                sort(model.graph)
                verify(model)
                _require_loadable(model, pass_.release)
                verification = check.after(model, exact=pass_.exact)
        except OnnxCompressError as fault:
            error = str(fault)
        except Exception as fault:  # a bug in a pass must not take the user's model with it
            error = str(as_own(fault))
        if error is not None:
            model.graph, model.envelope = before.graph, before.envelope
            verification = "rolled back"
        return PassReport(
            name=pass_.name,
            changes=tuple(edit.changes),
            skips=(
                *_explained(edit.skips, beside, before, context),
                *_unmatched(pass_, before),
                *_sought(pass_, edit, before, error),
            ),
            nodes_before=_count(before),
            nodes_after=_count(model),
            bytes_before=before.weight_bytes,
            bytes_after=model.weight_bytes,
            seconds=time.perf_counter() - start,
            verification=verification,
            error=error,
        )


def _frozen(model: Model, context: RuntimeContext) -> str:
    """Takes inputs with stored values for constants where there are data that do not feed them."""
    if context.data is None or not model.graph.defaults:
        return ""
    names = ", ".join(map(repr, freeze(model, context.data.unused)))
    return f"{names}, which the data do not feed, are no inputs any more" if names else ""


def apply_pass(pass_: Pass, model: Model, context: Context) -> tuple[Editor, Mapping[str, str]]:
    """Runs a pass; again, without some nodes, where packed weights would stand beside float ones.

    Nothing is raised to an opset before, nor sorted and verified afterwards.

    Returns:
        The edits, and why nodes were left out, by name.
    """
    beside: dict[str, str] = {}
    for _ in range(_MOST_RUNS):
        start = clone(model) if pass_.packs else None
        edit = Editor(model)
        lifted = _lifted(pass_, model, edit, context) if pass_.packs else None
        names = tuple(map(glob.escape, beside))
        others = (Override(None, names), *pass_.overrides) if beside else pass_.overrides
        replace(pass_, overrides=others).run(model, edit, context)
        if lifted is not None:
            lifted.put_back()
        edit.finish()
        if edit.modified:
            remove_unused(model, edit)
        if lifted is None or start is None or not edit.modified:
            break
        found = lifted.beside({node for _, node in model.nodes()})
        if not found:
            break
        beside |= {
            node.name: f"{other.name!r} reads its weight too and keeps it: stored twice, it grows"
            for node, other in found.items()
        }
        model.graph, model.envelope = start.graph, start.envelope
    for first, other in lifted.stored_twice() if lifted is not None and edit.modified else ():
        detail = (
            f"{first.name!r} and {other.name!r} read one weight in two ways: "
            "scales lie along other axes, so each has integers of its own"
        )
        edit.changes.append(Change(Action.CHANGED, model.graph.name, "graph", detail))
    return edit, beside


def _lifted(pass_: Pass, model: Model, edit: Editor, context: Context) -> Lifted:
    floats = ANY_FLOAT if pass_.packs_halves() else WIDE
    return Lifted(model, edit, _ranks(model, context), once=pass_.packs_once, floats=floats)


def _ranks(model: Model, context: Context) -> Callable[[Tensor], int | None]:
    """Tells how many axes a tensor has: by the file, else by running a sample."""

    def rank(tensor: Tensor) -> int | None:
        known = query.rank(tensor)
        if known is None and tensor.name in (types := context.types(model)):
            return len(types[tensor.name].shape)
        return known

    return rank


def _explained(
    skips: Sequence[Skip], beside: Mapping[str, str], model: Model, context: RuntimeContext
) -> Iterator[Skip]:
    """What was left alone, with the true reason where the pass could not know it."""
    inputs = {
        node.name: name for _, node in model.nodes() if (name := replaceable_weight(model, node))
    }
    fed = () if context.data is None else context.data.unused
    for skip in skips:
        reason = beside.get(skip.node, skip.reason) if skip.reason == EXCLUDED else skip.reason
        name = inputs.get(skip.node)
        if name in fed:
            reason = f"its weight is the input {name!r}, which the data feed"
        elif name is not None and context.data is None:
            reason = f"its weight is the input {name!r}; with data that do not feed it, a constant"
        yield replace(skip, reason=reason)


def _on(release: Release | None) -> Callable[[Pass], Pass]:
    return lambda pass_: replace(pass_, release=release)


def _raise_opset(pass_: Pass, model: Model, context: RuntimeContext) -> bool:
    """Raises a model to what a pass needs there and no further; whether it had to be.

    Raises:
        ModelError: it cannot be raised, or the onnxruntime asked for does not know that opset.
    """
    needed = Pass.opset_for(pass_, model, context)
    if needed > model.opset:
        seen = clone(model)
        if pass_.packs:
            _lifted(pass_, seen, Editor(seen), context)
        needed = pass_.opset_for(seen, context)
    release = pass_.release
    if release is not None and model.opset < needed and needed > last_opset(release):
        raise ModelError(
            f"needs opset {needed}, and onnxruntime {release} knows those up to "
            f"{last_opset(release)}"
        )
    return require_opset(model, needed)


def _require_loadable(model: Model, release: Release | None) -> None:
    reason = why_not_on(model, release) if release is not None else None
    if reason is not None:
        raise ModelError(f"onnxruntime {release} does not load the result: {reason}")


def _unmatched(pass_: Pass, model: Model) -> list[Skip]:
    """Overrides that mean no node of the model: most likely a misspelt name."""
    nodes = [node for _, node in model.nodes()]
    return [
        Skip(", ".join((*override.nodes, *override.op_types)), "override", "matches no node")
        for override in pass_.overrides
        if not any(override.names(node) or node.op in override.op_types for node in nodes)
    ]


def _sought(pass_: Pass, edit: Editor, model: Model, error: str | None) -> list[Skip]:
    """What a pass looked for, where it found none of it: it would say nothing otherwise."""
    if error is not None or edit.changes or edit.skips or not pass_.seeks:
        return []
    return [Skip(model.graph.name, "graph", f"there is no {pass_.seeks}")]


def _count(model: Model) -> int:
    return sum(1 for _ in model.nodes())


def _is_quantized(model: Model) -> bool:
    return any(node.op == "DequantizeLinear" for node in model.graph.nodes)
