"""Samples to calibrate and judge with: what `--data` names, checked and read part by part."""
