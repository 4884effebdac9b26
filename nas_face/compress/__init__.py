"""Making a trained network smaller and cheaper: a model in, a model out."""
