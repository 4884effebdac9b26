"""Building blocks, one family a file; `nas_face.arch.catalog` lists them."""
