"""The design as software: compiled, kept, and called from Python."""
