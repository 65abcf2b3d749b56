"""Do these arrays fit that model? One line for each way in which they do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import check_cast, is_float
from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature

LABELS = "labels"


def is_explicit_label(name: str, inputs: Collection[str]) -> bool:
    """Whether an array says that it is labels: `labels`, or `labels.NAME` for an output's.

    An input of the model of that name is none.
    """
    return name not in inputs and (name == LABELS or name.startswith(f"{LABELS}."))


def batch_size(signature: Sequence[TensorSignature]) -> int | None:
    """The number of samples that every batch must have, None where any number will do.

    Raises:
        DataError: the inputs' first axes are different numbers.
    """
    sizes = {
        tensor.name: tensor.shape[0]
        for tensor in signature
        if tensor.shape and isinstance(tensor.shape[0], int)
    }
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise DataError(
            f"the model's inputs disagree about the batch size ({told}), so samples cannot be cut "
            f"from arrays; give whole feeds as test_data_set_* folders"
        )
    return next((size for size in sizes.values() if isinstance(size, int)), None)


def check_names(found: Collection[str], signature: Sequence[TensorSignature], origin: str) -> None:
    """Checks that there is an array for every input.

    Raises:
        DataError: one is missing; the names wanted and found are listed.
    """
    wanted = [tensor.name for tensor in signature]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"{origin}: no array for input {_listed(missing)}; the model wants {_listed(wanted)}, "
            f"found {_listed(sorted(found))}"
        )


def check_array(
    tensor: TensorSignature, shape: Sequence[int], dtype: np.dtype, origin: str, *, whole: bool
) -> None:
    """Checks one array against its input.

    Args:
        tensor: the input.
        shape: of the array; unless `whole`, its first axis counts samples.
        dtype: of the array.
        origin: where the array comes from, for the message.
        whole: the array is fed as it is, so its first axis is checked too.

    Raises:
        DataError: rank, a fixed axis or the dtype does not fit.
    """
    what = f"{origin}: input {tensor.name!r}"
    check_cast(dtype, tensor.dtype, what)
    # onnxruntime says () both of a scalar and of a tensor of unknown rank.
    if not tensor.shape:
        return
    first = 0 if whole else 1
    fits = len(shape) == len(tensor.shape) and all(
        not isinstance(wanted, int) or wanted == size
        for wanted, size in zip(tensor.shape[first:], shape[first:], strict=True)
    )
    if fits:
        return
    expected = _shape(tensor.shape) if whole else _shape(("samples", *tensor.shape[1:]))
    advice = "" if len(shape) == len(tensor.shape) else "; the first axis counts samples"
    raise DataError(
        f"{what} has shape {_shape(shape)}, expected {expected}{'' if whole else advice}"
    )


def check_counts(counts: Mapping[str, int], origin: str) -> int:
    """Checks that all arrays hold equally many samples, and some.

    Args:
        counts: length of the first axis by array name, labels included.
        origin: where they come from, for the message.

    Returns:
        The number of samples.

    Raises:
        DataError: lengths differ, or are zero.
    """
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"{origin}: arrays hold different numbers of samples ({told})")
    count = next(iter(counts.values()), 0)
    if count == 0:
        raise DataError(f"{origin}: it holds no samples")
    return count


def check_finite(
    feeds: Mapping[str, np.ndarray], rows: NDArray[np.int64] | None, origin: str
) -> None:
    """Checks that float arrays hold neither NaN nor infinity.

    Args:
        feeds: arrays by input name, the first axis being samples.
        rows: the place of those samples in `origin`; None for a feed that is one sample.
        origin: where they come from, for the message.

    Raises:
        DataError: names the input and its first sample that does.
    """
    for name, array in feeds.items():
        if not is_float(array.dtype):
            continue
        finite = np.isfinite(array)
        if finite.all():
            continue
        # Whatever the rank, the first axis of what is left tells the sample.
        row = int(np.argwhere(~np.atleast_1d(finite))[0][0])
        kind = "NaN" if np.isnan(np.atleast_1d(array)[row]).any() else "an infinite value"
        place = "" if rows is None or not array.ndim else f" in sample {rows[row]}"
        raise DataError(
            f"{origin}: input {name!r} holds {kind}{place}; nothing can be measured with it"
        )


def _shape(shape: Sequence[int | str | None]) -> str:
    inner = ", ".join("?" if axis is None else str(axis) for axis in shape)
    return f"({inner})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"


def finite_rows(
    arrays: Mapping[str, np.ndarray], rows: int, *, whole: bool
) -> tuple[NDArray[np.bool_], list[tuple[int, str]]]:
    """Which samples hold neither NaN nor infinity, and of each other one what does.

    Args:
        arrays: by name, the first axis being samples; one of rank 0 goes with every sample.
        rows: how many samples there are.
        whole: the arrays are one sample as they stand.
    """
    good = np.ones(rows, dtype=np.bool_)
    reasons: dict[int, str] = {}
    for name, array in arrays.items():
        if not is_float(array.dtype):
            continue
        finite = np.isfinite(array)
        if whole or not array.ndim:
            each = np.full(rows, bool(finite.all()))
        else:
            each = finite.reshape(rows, -1).all(axis=1)
        for at in np.flatnonzero(~each):
            reasons.setdefault(int(at), f"{name!r} holds NaN or infinite values")
        good &= each
    return good, sorted(reasons.items())
