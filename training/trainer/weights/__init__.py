"""Checkpoints and adapters as matrices: reading, comparing, projecting."""
