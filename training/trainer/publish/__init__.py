"""An adapter folder as it ships, and where it comes from."""
