"""Real models on real data, and side-by-side runs against other tools. Not part of the wheel."""
