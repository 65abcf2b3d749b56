"""Architectures that people export, small and with random weights, and what passes do to them."""
