"""Whether a design gives the bits that it should, and how much of it the samples have exercised."""
