"""The dependency groups of a model file, as a report."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from onnxcompress.api_errors import own_errors
from onnxcompress.channels.costs import Costs, Measure
from onnxcompress.channels.groups import Group, find_groups
from onnxcompress.data.given_shapes import Shapes, given_symbols
from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import DataError
from onnxcompress.ir import io
from onnxcompress.ir.model import Constant
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.recipe import Recipe
from onnxcompress.report.groups_schema import (
    GroupReport,
    GroupsReport,
    MemberReport,
    UnprunableReport,
)
from onnxcompress.report.schema import SCHEMA_VERSION
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.made_up import guess_notes, make_up
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP


@own_errors
def inspect_groups(
    model: str | os.PathLike[str], *, data: str | None = None, shapes: Shapes | None = None
) -> GroupsReport:
    """Cleans the model up and finds what can be cut from it.

    Args:
        model: path of an .onnx file.
        data: samples to take shapes from; made-up ones by default.
        shapes: of inputs, for made-up samples, see `compress`.

    Raises:
        ModelError: the file is not a model.
        SessionError: onnxruntime does not load it.
        DataError: the data or the shapes do not fit, or both were given.
    """
    path = Path(model)
    loaded = io.load(path)
    session = Session(path)
    if data is not None and shapes:
        raise DataError("shapes are for made-up samples (--shapes), and the data have their own")
    given_symbols(shapes or {}, session.inputs)
    dataset = None if data is None else load_dataset(data, session.inputs)
    context = RuntimeContext(dataset, shapes=shapes)
    reports = PassManager(CLEAN_UP, on_error=OnError.SKIP).run(loaded, context)
    groups = find_groups(loaded, context)
    costs = Costs(loaded, groups.space)
    everything = np.ones(groups.space.size, bool)
    notes = [f"{each.name} failed and was left out: {each.error}" for each in reports if each.error]
    if not context.types(loaded):
        notes.append("shapes are not known: the model does not run on made-up inputs; give --data")
    elif dataset is None:
        with suppress(DataError):
            notes += guess_notes(make_up(session, 1, 0, shapes).guesses)
    return GroupsReport(
        schema_version=SCHEMA_VERSION,
        path=str(path),
        clean_up=Recipe(CLEAN_UP).dump(),
        parameters=costs.of(Measure.PARAMETERS, everything),
        macs=costs.of(Measure.MACS, everything),
        groups=tuple(_report(group, costs) for group in groups.groups),
        skipped=tuple(
            UnprunableReport(
                node=each.node.name, op=each.node.op, channels=each.channels, reason=each.reason
            )
            for each in groups.skipped
        ),
        notes=tuple(notes),
    )


def _report(group: Group, costs: Costs) -> GroupReport:
    return GroupReport(
        name=group.name,
        units=len(group),
        nodes=tuple(node.name for node in group.nodes),
        members=tuple(
            MemberReport(tensor=axis.tensor.name, axis=axis.axis, slices=group.slots_per_unit(axis))
            for axis in group.axes
            if isinstance(axis.tensor, Constant)
        ),
        parameters_per_unit=costs.saved(Measure.PARAMETERS, group.units[0]),
        macs_per_unit=costs.saved(Measure.MACS, group.units[0]),
    )
