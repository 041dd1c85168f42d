"""Layers as processes joined by streams: what each reads and writes, how long it takes, how deep FIFOs are."""
