"""What was done and measured, for programs and for people."""
