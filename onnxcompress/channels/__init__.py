"""Channels across a graph: which slices of which tensors must go together, and cutting them."""
