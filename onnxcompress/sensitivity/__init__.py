"""Which nodes a quantized model owes its error to, and how many bits each should get."""
