"""How near embeddings stay to the original's, once what all of them share is taken away.

Embeddings of a network often point the same way whatever the input, so that the cosine of any two
is near 1 (K. Ethayarajh, "How contextual are contextualized word representations?", EMNLP 2019).
Less the original's mean, `2 ab / (aa + bb)` is 1 for equal vectors alone: what carries no content
gets about 0, and what is scaled loses too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, vectors_of
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rates import lost, mean, ratio
from onnxcompress.measure.tally import RowTally

LEAST_SPREAD: Final = 1e-4
"""The least spread that vectors are measured by, as a share of their length; float32 resolves less
after many sums."""


_BLOCK: Final = 256
"""Vectors that are widened at once."""


def mean_vector(reference: Output) -> NDArray[np.float64]:
    """The original's mean over samples, shape (elements,); of a single one 0, as nothing varies.

    Raises:
        DataError: there are no samples, or their outputs are no vectors of one length.
    """
    vectors = vectors_of(reference, "the original's outputs")
    if not len(vectors):
        raise DataError("there are no samples to take a mean of; give some")
    if len(vectors) == 1:
        return np.zeros(vectors.shape[1])
    average: NDArray[np.float64] = vectors.mean(axis=0)
    return average


def embedding_tally(output: Output, reference: Output, centre: NDArray[np.float64]) -> RowTally:
    """The similarity of each sample's vectors less `centre`, and 1; (samples, 2).

    Args:
        output: the candidate's vectors, (samples, elements).
        reference: the original's, alike.
        centre: the original's mean, shape (elements,), the same for all batches; see `mean_vector`.

    Raises:
        DataError: the outputs are no vectors of the centre's length.
    """
    check_counts(output, reference)
    ours = vectors_of(output, "the outputs")
    theirs = vectors_of(reference, "the original's outputs")
    if not ours.shape[1] == theirs.shape[1] == centre.size:
        raise DataError(
            f"vectors of {ours.shape[1]} elements cannot be compared with the original's of "
            f"{theirs.shape[1]} about a mean of {centre.size}; choose another output or metric"
        )
    left, right = ours - centre.reshape(-1), theirs - centre.reshape(-1)
    powers = np.einsum("ij,ij->i", left, left) + np.einsum("ij,ij->i", right, right)
    least = 2 * (LEAST_SPREAD**2) * np.einsum("ij,ij->i", theirs, theirs)
    powers = np.maximum(powers, least)
    apart = ours - theirs
    # `1 - |a - b|^2 / (aa + bb)` is the same, and 1 exactly where both are equal.
    similarity = 1 - ratio(np.einsum("ij,ij->i", apart, apart), powers, 0.0)
    return RowTally(np.stack([similarity, np.ones(len(similarity))], axis=1))


def spread_and_error_of_vectors(
    output: Output, reference: Output
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The variance of each element of the original's vectors, and its mean squared error."""
    centre = mean_vector(reference)
    spread, error = np.zeros(centre.size), np.zeros(centre.size)
    for begin in range(0, len(reference), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        ours = vectors_of(output[rows], "the outputs")
        theirs = vectors_of(reference[rows], "the original's outputs")
        spread += np.square(theirs - centre).sum(axis=0)
        error += np.square(ours - theirs).sum(axis=0)
    return spread / len(reference), error / len(reference)


embedding_value: Final = mean
embedding_drop: Final = lost(mean)
