"""What each array of the data is for: an input, labels, a group, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.data.checks import LABELS, is_explicit_label
from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.data.parts import Part
    from onnxcompress.runtime.session import TensorSignature

STAND_INS: Final = ("y", "label", "target", "targets")
"""What is taken as labels where nothing is called so, the first that fits."""

_PREFIX: Final = f"{LABELS}."


@dataclass(frozen=True, kw_only=True)
class Field:
    """An array that comes with the samples, as its header declares it."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def can_be_labels(self) -> bool:
        """Whether it holds numbers, truth values or text."""
        return kind_of(self.dtype) is not Kind.OTHER

    def fits(self, samples: int) -> bool:
        """Whether it holds an entry for each sample."""
        return bool(self.shape) and self.shape[0] == samples


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The names of arrays, by what they are for.

    Attributes:
        labels: of the unnamed labels; None without any.
        of_output: of the labels of each output that the data name.
        groups: whose values tell which samples belong together; None if that was not asked for.
        unused: all others that are no input.
    """

    labels: str | None = None
    of_output: Mapping[str, str] = field(default_factory=dict)
    groups: str | None = None
    unused: tuple[str, ...] = ()

    @property
    def all_labels(self) -> tuple[str, ...]:
        """All arrays that hold labels."""
        unnamed = () if self.labels is None else (self.labels,)
        return (*unnamed, *self.of_output.values())


def roles_of(
    parts: Sequence[Part], signature: Sequence[TensorSignature], group_by: str | None
) -> Roles:
    """Finds out what the arrays of all parts are for.

    Args:
        parts: some of them at least.
        signature: the model's inputs.
        group_by: the array whose values are groups.

    Raises:
        DataError: labels are in some parts only, or groups are missing or are not one value for
            each sample.
    """
    inputs = {tensor.name for tensor in signature}
    names = dict.fromkeys(name for part in parts for name in part.fields)
    others = [name for name in names if name not in inputs]
    explicit = [name for name in others if is_explicit_label(name, inputs)]
    for name in explicit:
        without = next((part.origin for part in parts if name not in part.fields), None)
        if without is not None:
            what = "labels" if name == LABELS else f"array {name!r}"
            raise DataError(f"{without}: it has no {what}, while other parts of the data have")
        for part in parts:
            if not part.fields[name].can_be_labels:
                raise DataError(
                    f"{part.origin}: {name} are {part.fields[name].dtype}; labels are numbers, "
                    "truth values or text"
                )
    labels = LABELS if LABELS in explicit else None
    if not explicit:
        labels = next(
            (each for each in STAND_INS if each in others and _fits_all(each, parts)), None
        )
    if group_by is not None:
        _check_groups(group_by, parts)
    used = {labels, group_by, *explicit}
    return Roles(
        labels=labels,
        of_output={name.removeprefix(_PREFIX): name for name in sorted(explicit) if name != LABELS},
        groups=group_by,
        unused=tuple(sorted(name for name in others if name not in used)),
    )


def _fits_all(name: str, parts: Sequence[Part]) -> bool:
    found = [(part.count, part.fields.get(name)) for part in parts]
    return all(each and each.can_be_labels and each.fits(count) for count, each in found)


def _check_groups(name: str, parts: Sequence[Part]) -> None:
    for part in parts:
        found = part.fields.get(name)
        if found is None:
            raise DataError(
                f"{part.origin}: no array {name!r} to group by; found {_listed(part.fields)}"
            )
        if not found.fits(part.count) or any(size != 1 for size in found.shape[1:]):
            raise DataError(
                f"{part.origin}: {name!r}, to group by, has shape {found.shape}; one value for "
                f"each of the {part.count} samples is needed"
            )


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "nothing beside the inputs"
