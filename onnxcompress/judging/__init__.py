"""What each output of a model is, how it is read, and how much of it a candidate loses."""
