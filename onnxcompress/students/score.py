"""How near a student comes to the part that it stands for."""

from __future__ import annotations

import numpy as np

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import Model
from onnxcompress.ir.sort import sort
from onnxcompress.pass_base import Context
from onnxcompress.students.boundary import Boundary, shadowed


def relative_error(model: Model, boundary: Boundary, student: Model, context: Context) -> float:
    """Squared error over the teacher's variance (1 - R^2), the mean over the part's outputs.

    Both are fed what the teacher computes before the part, over all of the calibration data.

    Raises:
        DataError: there are no data.
        ModelError: the student's outputs are of another type or shape than the part's.
    """
    both, names = shadowed(model, boundary, student)
    sort(both.graph)
    types = context.types(both)
    for name, other in names.items():
        if name in types and types[name] != types.get(other):
            found = types.get(other)
            told = "not computed" if found is None else f"{found.dtype} {list(found.shape)}"
            raise ModelError(
                f"the student's output {name!r} is {told}, the model's is "
                f"{types[name].dtype} {list(types[name].shape)}"
            )
    sums = {name: np.zeros(4) for name in names}
    for batch in context.activations(both, [*names, *names.values()]):
        for name, other in names.items():
            wanted, found_values = (batch[each].astype(np.float64) for each in (name, other))
            error = np.square(found_values - wanted).sum()
            sums[name] += wanted.size, wanted.sum(), np.square(wanted).sum(), error
    errors = []
    for count, total, squares, error in sums.values():
        spread = squares - total**2 / max(count, 1)
        errors.append(error / spread if spread > 0 else float(error > 0))
    return float(np.mean(errors))
