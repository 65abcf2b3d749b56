"""Files that nobody meant: models, data, recipes and checkpoints, changed at random."""
