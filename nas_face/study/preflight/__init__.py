"""What a study can expect, before anything is trained."""
