"""Checkpoints: how they are written, what they say of themselves, and how they are read and verified."""
