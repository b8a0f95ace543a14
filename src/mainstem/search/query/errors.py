"""The error for a query that cannot be parsed."""

from __future__ import annotations


class QueryError(ValueError):
    """Raised for a query that cannot be parsed. Its message is for the person who typed it."""

    def __init__(self, message: str, column: int = 0, length: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        """Where the mistake begins: characters from the start of the query, counted from 0."""
        self.length = max(length, 1)
        """Number of characters that are wrong, at least 1. The end of the query counts as one."""
