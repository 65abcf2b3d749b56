"""Small torch models of families that are exported much, with channels by a multiple."""
