"""Small torch models of the families that are exported most, for tests on real exports."""
