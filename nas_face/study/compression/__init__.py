"""Recipes carried out step by step: what `nas-face compress` does."""
