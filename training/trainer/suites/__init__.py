"""`evaluate --suite …`: public test sets against a running server, base and adapters together."""
