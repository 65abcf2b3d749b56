"""Importances that a user gives: a table of numbers by the names of stored tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxcompress.data.npz import Member, read_array, read_members
from onnxcompress.data.recipe_paths import inside_current_folder
from onnxcompress.errors import DataError
from onnxcompress.masking.weights import PrunableWeight


class GivenImportances:
    """An .npz file: for each tensor an array of its shape, or one number for all of it.

    Attributes:
        path: the file; read array by array.
        members: what it declares, by tensor name.
    """

    path: Path
    members: Mapping[str, Member]

    def __init__(self, path: str | os.PathLike[str]):
        """Reads what the file declares, and no numbers yet.

        Raises:
            DataError: it lies elsewhere, is none, or is damaged.
        """
        self.path = inside_current_folder(path, "importances")
        self.members = read_members(self.path)

    def of(self, weight: PrunableWeight) -> np.ndarray | None:
        """The importances of a weight as [groups, outputs, features] or one number, or None.

        Raises:
            DataError: they have another shape, or are no numbers from zero up.
        """
        name = weight.constant.name
        member = self.members.get(name)
        if member is None:
            return None
        single = member.shape in ((), (1,))
        if not single and member.shape != weight.constant.shape:
            raise DataError(
                f"{self.path}: {name!r} has shape {list(member.shape)}, but the weight has "
                f"{list(weight.constant.shape)}; give that, or one number"
            )
        if member.dtype.kind not in "fiu":
            raise DataError(f"{self.path}: {name!r} holds {member.dtype}, not numbers")
        values = read_array(self.path, member)
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise DataError(f"{self.path}: {name!r} holds numbers below zero, NaN or infinities")
        return values.reshape(()) if single else weight.view(values)
