"""Which stored dtype may become which input dtype: same kind yes, a change of meaning never."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import numpy as np

from onnxcompress.errors import DataError


class Kind(enum.Enum):
    """What numbers of a dtype mean, whatever their width."""

    BOOL = "bool"
    INTEGER = "integer"
    FLOAT = "float"
    TEXT = "text"
    OTHER = "other"


_KINDS: Final[Mapping[str, Kind]] = {
    "b": Kind.BOOL,
    "i": Kind.INTEGER,
    "u": Kind.INTEGER,
    "f": Kind.FLOAT,
    "U": Kind.TEXT,
    "S": Kind.TEXT,
    "T": Kind.TEXT,
    "O": Kind.TEXT,
}
_CASTS: Final = frozenset(
    {
        (Kind.BOOL, Kind.BOOL),
        (Kind.BOOL, Kind.INTEGER),
        (Kind.INTEGER, Kind.INTEGER),
        (Kind.FLOAT, Kind.FLOAT),
        (Kind.TEXT, Kind.TEXT),
    }
)
_ADVICE: Final[Mapping[tuple[Kind, Kind], str]] = {
    (Kind.INTEGER, Kind.FLOAT): (
        "prepare it as in training, for pixels for example "
        "(x.astype(np.float32) / 255 - mean) / std, and store the result"
    ),
    (Kind.BOOL, Kind.FLOAT): "store it as x.astype(np.float32) if 0.0 and 1.0 are meant",
    (Kind.FLOAT, Kind.INTEGER): "store indices as integers, x.astype(np.int64)",
    (Kind.INTEGER, Kind.BOOL): "store the mask as x.astype(bool)",
    (Kind.FLOAT, Kind.BOOL): "store the mask as x > 0.5 or what is meant",
}


def kind_of(dtype: np.dtype) -> Kind:
    """The kind of a dtype; ml_dtypes' floats and integers count as such."""
    if dtype.kind == "V" and dtype.names is None:
        for start, kind in (("bfloat", Kind.FLOAT), ("float", Kind.FLOAT), ("int", Kind.INTEGER)):
            if dtype.name.removeprefix("u").startswith(start):
                return kind
    return _KINDS.get(dtype.kind, Kind.OTHER)


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype holds real numbers, bfloat16 and float8 included."""
    return kind_of(dtype) is Kind.FLOAT


def check_cast(found: np.dtype, wanted: np.dtype, what: str) -> None:
    """Checks that `found` may be fed as `wanted`.

    Raises:
        DataError: it may not; the message starts with `what` and says what to do.
    """
    if found == wanted or _is_raw(found, wanted):
        return
    change = (kind_of(found), kind_of(wanted))
    if change not in _CASTS:
        advice = _ADVICE.get(change, f"store it as {wanted}")
        raise DataError(f"{what} is {found}, the model expects {wanted}; {advice}")


def cast(array: np.ndarray, wanted: np.dtype, what: str) -> np.ndarray:
    """Turns an array into the input's dtype, copying only where it must.

    Raises:
        DataError: the change is not allowed, or an integer does not fit into `wanted`.
    """
    found = array.dtype
    if found == wanted:
        return array
    check_cast(found, wanted, what)
    if _is_raw(found, wanted):
        return array.view(wanted)
    if kind_of(wanted) is Kind.INTEGER and not np.can_cast(found, wanted) and array.size:
        low, high = array.min(), array.max()
        back = np.array([low, high]).astype(wanted).astype(found)
        if back[0] != low or back[1] != high:
            raise DataError(
                f"{what} is {found} with values {low}..{high}, which {wanted} cannot hold"
            )
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8").astype(object)
    # What overflows becomes infinite, and the check for finite values names the sample.
    with np.errstate(over="ignore"):
        return array.astype(wanted)


def _is_raw(found: np.dtype, wanted: np.dtype) -> bool:
    """Whether it is what numpy writes for ml_dtypes' types: bytes without a name."""
    return (
        found.kind == "V"
        and found.names is None
        and wanted.kind == "V"
        and found.name.startswith("void")
        and found.itemsize == wanted.itemsize
    )
