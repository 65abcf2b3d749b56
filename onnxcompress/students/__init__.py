"""Smaller stand-ins for parts of a model: how they are cut out, made, judged and put in place."""
