"""The page of a reproduction, its tables, its raw numbers."""
