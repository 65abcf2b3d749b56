"""The one error that ends a fetch with a single line."""

from __future__ import annotations


class SubjectError(Exception):
    """A subject cannot be fetched; the message is one line that says why and what to do."""


class MissingFileError(SubjectError):
    """A file is not where it was looked for, or cannot be had on this system."""
