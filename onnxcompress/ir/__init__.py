"""The graph layer: the only place that touches the file format."""
