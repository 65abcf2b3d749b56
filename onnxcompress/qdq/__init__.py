"""Where QuantizeLinear and DequantizeLinear go, and how they are written."""
