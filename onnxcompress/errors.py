"""What can go wrong, one class for each thing a caller may want to tell apart.

Every message says what is wrong, where (file, pass, node or tensor) and what to do about it, in one
line, so that the command line can print it as it stands.
"""


class OnnxCompressError(Exception):
    """Base of every error that onnxcompress raises on purpose."""


class ModelError(OnnxCompressError):
    """A model file cannot be read, or its graph is not valid."""


class DataError(OnnxCompressError):
    """Samples are missing, do not fit the model's inputs, or hold values that prove nothing."""


class RecipeError(OnnxCompressError):
    """A recipe, a pass name or an option is not one that exists."""


class PassError(OnnxCompressError):
    """A pass failed or left a graph that does not hold; the model from before it still stands."""


class SessionError(OnnxCompressError):
    """onnxruntime refused to load or to run a model."""


class CheckpointError(OnnxCompressError):
    """Checkpoints are missing or damaged, or belong to another run."""


class OutputError(OnnxCompressError):
    """A result could not be written; nothing half-written was left behind."""


class ResourceError(OnnxCompressError):
    """Memory, space or the depth of nesting was not enough, or the system refused a file."""


class InternalError(OnnxCompressError):
    """A fault of onnxcompress itself; the cause is chained."""
