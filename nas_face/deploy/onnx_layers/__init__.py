"""How each primitive layer is written as ONNX operators; files as in `nas_face.arch.layers`.

Every function takes the layer, the site that it is written at and its input, and returns its
output. Weights come from the state dict of the torch module, in double precision.
"""
