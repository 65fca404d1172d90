"""Exams taken, their results as tables, the strength that is recommended."""
