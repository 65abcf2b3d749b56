"""The subjects by name. A new one is a file with a ``SUBJECT`` and a line here."""

from __future__ import annotations

from benchmarks.subjects import (
    digits,
    efficientnet_lite0,
    minilm,
    orientation,
    resnet20,
    smollm2,
    speaker_encoder,
    text_line,
)
from benchmarks.subjects.subject import Subject

SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        efficientnet_lite0.SUBJECT,
        resnet20.SUBJECT,
        minilm.SUBJECT,
        smollm2.SUBJECT,
        speaker_encoder.SUBJECT,
        digits.SUBJECT,
        orientation.SUBJECT,
        text_line.SUBJECT,
    )
}
