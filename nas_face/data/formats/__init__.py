"""Formats of face sets and of lists of pairs, one file each: path in, listing out."""
