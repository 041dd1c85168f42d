"""Data sets: where they come from, what must be true of them, and how they are split."""
