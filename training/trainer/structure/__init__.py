"""`orthomerge`, `merge-adapter`, `analyze`: the structure of an update."""
