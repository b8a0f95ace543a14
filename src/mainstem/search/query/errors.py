"""What can be wrong with a query."""

from __future__ import annotations


class QueryError(ValueError):
    """A query that cannot be understood; the text is for the person who typed it."""

    def __init__(self, message: str, column: int = 0, length: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        """Where it begins in the query; characters from 0."""
        self.length = max(length, 1)
        """How many characters are wrong, at least 1. The end of the query counts as one."""
