"""Imitation: DiffTORIIL, behaviour cloning, proposals and multimodality."""
