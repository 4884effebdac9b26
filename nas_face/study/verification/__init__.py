"""Models on pairs, galleries and templates: what `nas-face verify` does."""
