"""Words in the names of outputs that tell what they say."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
CLASS_WORDS: Final = frozenset(
    [
        "logit",
        "logits",
        "class",
        "classes",
        "cls",
        "classification",
        "prob",
        "probs",
        "probability",
        "probabilities",
        "softmax",
        "category",
        "categories",
    ]
)
EMBEDDING_WORDS: Final = frozenset(
    [
        "embedding",
        "embeddings",
        "embed",
        "embeds",
        "emb",
        "embs",
        "feature",
        "features",
        "vector",
        "representation",
        "pooled",
        "pooler",
        "descriptor",
    ]
)
POINT_WORDS: Final = frozenset(
    [
        "landmark",
        "landmarks",
        "keypoint",
        "keypoints",
        "kpt",
        "kpts",
        "kps",
        "point",
        "points",
        "joint",
        "joints",
        "pose",
        "coord",
        "coords",
        "coordinates",
        "params",
        "vertices",
        "regression",
    ]
)
HIDDEN_WORDS: Final = frozenset(["hidden", "state", "states", "encoder", "encoded", "memory"])
SCORE_WORDS: Final = CLASS_WORDS | {"score", "scores", "confidence", "conf", "sigmoid"}


def words_of(name: str) -> set[str]:
    """The words of a name, in lower case: `faceLandmarks_2` holds face, landmarks and 2."""
    return {word.lower() for word in _WORD.findall(name)}
