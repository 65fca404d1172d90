"""`train-adapter`: from a base and data to a judged, published folder."""
