"""A guard: an adapter that reads a conversation's own keys and values in one token."""
