"""The only place that imports onnxruntime: sessions, calibration, profiles."""
