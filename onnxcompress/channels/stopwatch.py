"""What a model takes, measured, once slots are gone."""

from __future__ import annotations

import numpy as np

from onnxcompress.channels.cut import Cut
from onnxcompress.channels.groups import find_groups
from onnxcompress.clean import remove_unused
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.ir.sort import sort
from onnxcompress.pass_base import Context


class Stopwatch:
    """Times copies of a model that slots are cut out of.

    Args:
        model: left as it is; what it takes counts as 1.
        context: measures.
    """

    def __init__(self, model: Model, context: Context):
        self._model = model
        self._context = context
        self._measured: dict[bytes, float] = {}

    def of(self, kept: np.ndarray) -> float:
        """The time that is left, as a share of the whole model's.

        Args:
            kept: bool by slot, of the model's space.
        """
        if kept.all():
            return 1.0
        key = np.packbits(kept).tobytes()
        if key not in self._measured:
            self._measured[key] = self._context.time_ratio(self._without(kept), self._model)
        return self._measured[key]

    def _without(self, kept: np.ndarray) -> Model:
        """A copy with its shapes as `strip-pruned` leaves them; its outputs are not the same."""
        smaller = clone(self._model)
        space = find_groups(smaller, self._context).space  # numbered alike: the graph is the same
        edit = Editor(smaller)
        Cut(space, kept).apply(smaller, edit)
        edit.finish()
        remove_unused(smaller, edit)
        sort(smaller.graph)
        return smaller
