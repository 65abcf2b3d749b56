"""Weights of a model of which some may become zero: where they are, what is known of them."""
