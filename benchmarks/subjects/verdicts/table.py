"""The models by name. A new one is a file with an ``Unlabelled`` and a line here."""

from __future__ import annotations

from benchmarks.subjects.subject import Unlabelled
from benchmarks.subjects.verdicts import (
    captcha_whisperer,
    ddddocr,
    dnsmos,
    keyword_embedding,
    nsnet2,
    nudenet,
    open_nsfw,
    openwakeword,
    rapid_layout,
    rapidocr_detection,
    table_cls,
    ukis_csmask,
)

VERDICTS: dict[str, Unlabelled] = {
    each.name: each
    for each in (
        nudenet.SUBJECT,
        ddddocr.DETECTOR,
        rapid_layout.SUBJECT,
        ddddocr.RECOGNIZER,
        captcha_whisperer.SUBJECT,
        rapidocr_detection.SUBJECT,
        ukis_csmask.SUBJECT,
        nsnet2.SUBJECT,
        open_nsfw.SUBJECT,
        table_cls.SUBJECT,
        dnsmos.SUBJECT,
        openwakeword.WORD,
        openwakeword.FEATURES,
        openwakeword.VOICE,
        keyword_embedding.SUBJECT,
    )
}
