"""`python -m onnxcompress`."""

from onnxcompress.cli import main

main()
