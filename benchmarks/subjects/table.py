"""The subjects by name. A new one is a file with a ``SUBJECT`` and a line here."""

from __future__ import annotations

from benchmarks.subjects import (
    digits,
    efficientnet_lite0,
    efficientnet_lite0_imagenet,
    minilm,
    orientation,
    resnet20,
    resnet20_cifar10,
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
"""What packages alone make."""

OWN_DATA: dict[str, Subject] = {
    subject.name: subject
    for subject in (efficientnet_lite0_imagenet.SUBJECT, resnet20_cifar10.SUBJECT)
}
"""What needs files that no package ships; fetched only by name."""
