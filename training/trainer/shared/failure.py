"""The exception whose message is for the person at the keyboard: rule, value, remedy."""


class Failure(Exception):
    """Shown as a single `error:` line, exit status 2."""
