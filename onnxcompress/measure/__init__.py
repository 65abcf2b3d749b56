"""What is proved about a model: accuracy, latency, size, and the machine it was measured on."""
