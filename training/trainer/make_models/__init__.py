"""`make-models`: the embedded checkpoint, from generated text to a card."""
