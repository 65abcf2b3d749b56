"""The model and the data of `onnxcompress demo`."""
