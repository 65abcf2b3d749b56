"""Which parameters matter least, and what to make of those that stay: pure numpy."""
