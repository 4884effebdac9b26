"""NNI, for those who come from it: its search spaces and its tuners."""
