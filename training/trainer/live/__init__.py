"""`evaluate --suite live`: policies of live safety beside each other, under attack too."""
