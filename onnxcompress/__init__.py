"""onnxcompress"""
