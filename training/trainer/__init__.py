"""The Python side of dutyfree: makes the embedded checkpoints, trains adapters, measures both."""
