"""What was done to a model, kept in its metadata so that it is not done twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress

from onnxcompress.ir.model import Model


def recorded(model: Model, key: str) -> list[str]:
    """The entries under a key of the metadata; none if it is absent or not ours."""
    for entry in model.envelope.metadata_props:
        if entry.key == key:
            with suppress(ValueError):
                values = json.loads(entry.value)
                if isinstance(values, list):
                    return [value for value in values if isinstance(value, str)]
    return []


def record(model: Model, key: str, entries: Iterable[str]) -> None:
    """Adds entries under a key of the metadata."""
    value = json.dumps([*recorded(model, key), *entries])
    for entry in model.envelope.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    model.envelope.metadata_props.add(key=key, value=value)
