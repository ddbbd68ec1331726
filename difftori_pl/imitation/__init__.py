"""Imitation learning: DiffTORIIL, behaviour cloning, proposals and multimodality."""
