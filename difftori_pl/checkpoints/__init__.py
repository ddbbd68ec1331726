"""Write, describe, read and verify checkpoints."""
