"""What an adapter learns from: generated sets, JSONL files, data sets of a hub."""
