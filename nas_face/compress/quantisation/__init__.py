"""Networks on grids of few bits: what that costs each layer, and how to make it cost less."""
