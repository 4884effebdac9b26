"""The command line: parse, call, print. Everything else happens elsewhere."""

from nas_face.cli.main import main

__all__ = ["main"]
