"""The subjects by name. A new one is a file with a ``SUBJECT`` and a line here."""

from __future__ import annotations

from benchmarks.subjects import efficientnet_lite0, minilm, resnet20
from benchmarks.subjects.subject import Subject

SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        efficientnet_lite0.SUBJECT,
        resnet20.SUBJECT,
        minilm.SUBJECT,
    )
}
