"""Points gathered to curves, and what they say of each claim. Pure."""
