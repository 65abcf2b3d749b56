"""What `onnxcompress inspect --groups` reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MemberReport:
    """A stored tensor that loses slices when a unit goes.

    Attributes:
        tensor: its name.
        axis: along which.
        slices: that go with each unit.
    """

    tensor: str
    axis: int
    slices: int


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """Units that can be cut one by one: channels, heads, neurons, recurrent units.

    Attributes:
        name: of the first node whose weight they are a part of.
        units: how many there are.
        nodes: the nodes with weights that lose something.
        members: what they lose.
        parameters_per_unit: elements of stored tensors that go with the first unit.
        macs_per_unit: multiply-accumulates of one sample that go with it.
    """

    name: str
    units: int
    nodes: tuple[str, ...]
    members: tuple[MemberReport, ...]
    parameters_per_unit: int
    macs_per_unit: int


@dataclass(frozen=True, kw_only=True)
class UnprunableReport:
    """Channels that cannot be cut.

    Attributes:
        node: whose weight they are a part of.
        op: its operator.
        channels: how many.
        reason: why.
    """

    node: str
    op: str
    channels: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class GroupsReport:
    """The dependency groups of a model.

    Attributes:
        schema_version: see `report.schema`.
        path: the model.
        clean_up: the passes that ran first, as TOML; node names are those after them.
        parameters: elements of its stored tensors after that.
        macs: multiply-accumulates of one sample.
        groups: in the order of the graph.
        skipped: what belongs to no group, and why.
        notes: what the reader should know.
    """

    schema_version: int
    path: str
    clean_up: str
    parameters: int
    macs: int
    groups: tuple[GroupReport, ...]
    skipped: tuple[UnprunableReport, ...]
    notes: tuple[str, ...]
