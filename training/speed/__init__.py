"""`fit` beside PEFT with the Hugging Face Trainer: seconds, memory, and the same loss."""
