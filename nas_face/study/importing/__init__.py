"""Other people's weights as model folders: what `nas-face import-weights` does."""
