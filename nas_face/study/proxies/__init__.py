"""Zero-cost proxies in a search, and held against its trainings."""
