"""Where both towers meet: studies, runs, reports."""
