"""A graph as the C++ that computes it, up to the point where templates arrange it as text."""
