"""Gradients and training of ONNX graphs in PyTorch; the only room that imports torch."""
