"""What is said to the user instead of a traceback."""


class Refused(Exception):
    """A whole sentence: what was expected, what was found, what to do."""
