"""For eyes only: progress, notebooks, pictures."""
