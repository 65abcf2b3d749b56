"""The arithmetic of quantization, in numpy alone."""
