"""Means, intervals, frontiers, the choice of a rate. Pure."""
