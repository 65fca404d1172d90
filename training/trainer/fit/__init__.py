"""What is trained and how: the loop, the loss, the caches, resuming."""
