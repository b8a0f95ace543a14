"""Splits a query's text into words, resolving escapes and quotes.

Owns: where a word begins and ends, and which of its characters are literal. Refuses: to interpret words as
fields or values (`parser.py`). A text that cannot be split raises QueryError.
"""

from __future__ import annotations

import msgspec

from mainstem.search.query.errors import QueryError
from mainstem.search.text import globs


class Word(msgspec.Struct, frozen=True):
    """One word of a query, as typed."""

    start: int
    end: int
    characters: tuple[tuple[str, bool], ...]
    """Each character, and whether it is literal: after a backslash or in quotes."""
    quoted: bool
    """Whether the word is a single pair of quotes with its content."""
    quote_at: int | None
    """Column of the first quote."""

    @property
    def text(self) -> str:
        return "".join(character for character, _ in self.characters)

    @property
    def is_plain(self) -> bool:
        """Whether nothing in the word is quoted or escaped."""
        return not any(literal for _, literal in self.characters) and self.quote_at is None

    @property
    def is_pattern(self) -> bool:
        return any(character in "*?" and not literal for character, literal in self.characters)

    @property
    def pattern(self) -> str:
        return "".join(
            globs.escaped(character) if literal else character for character, literal in self.characters
        )

    def path(self) -> tuple[str, ...]:
        """The word as the name of a field: the segments between its dots."""
        segments = [""]
        for character, literal in self.characters:
            if character == "." and not literal:
                segments.append("")
            else:
                segments[-1] += character
        return tuple(segments)


class QueryLexer:
    """Reads a query's text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def skip_blanks(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    @property
    def current(self) -> str:
        """The character at the position; empty at the end of the text."""
        return self.text[self.position : self.position + 1]

    @property
    def is_at_boundary(self) -> bool:
        """Whether a word may end at the position: at a blank, a bracket or the end of the text."""
        return not self.current or self.current.isspace() or self.current in "()"

    def operator(self) -> str:
        """AND, OR, NOT or TO if it is the next word, otherwise empty. Does not move the position."""
        for word in ("AND", "OR", "NOT", "TO"):
            if self.text.startswith(word, self.position):
                after = self.text[self.position + len(word) : self.position + len(word) + 1]
                if not after or after.isspace() or after in "()":
                    return word
        return ""

    def word(self, stop: str) -> Word:
        """Read a word up to a blank or one of the characters `stop`. It may be empty."""
        start, quoted, quote_at, pieces = self.position, False, None, 0
        characters: list[tuple[str, bool]] = []
        while self.current and not self.current.isspace() and self.current not in stop:
            pieces += 1
            if self.current == '"':
                quote_at = self.position if quote_at is None else quote_at
                quoted = pieces == 1
                characters.extend((character, True) for character in self._in_quotes())
            else:
                quoted = False
                characters.append(self._character())
        return Word(start, self.position, tuple(characters), quoted, quote_at)

    def _character(self) -> tuple[str, bool]:
        if self.current != "\\":
            self.position += 1
            return self.text[self.position - 1], False
        if self.position + 1 == len(self.text):
            raise QueryError(
                "a backslash escapes the character after it, but here the query ends", self.position
            )
        self.position += 2
        return self.text[self.position - 1], True

    def _in_quotes(self) -> str:
        start = self.position
        self.position += 1
        content = ""
        while self.current != '"':
            if not self.current:
                raise QueryError('the closing " is missing', start, len(self.text) - start)
            content += self._character()[0]
        self.position += 1
        return content

    def regex(self) -> tuple[int, str]:
        """Read an expression between slashes: its column and text. `\\/` in it is a slash."""
        start = self.position
        self.position += 1
        expression = ""
        while self.current != "/":
            if not self.current:
                message = "the closing / of the regular expression is missing (to look for a /, use quotes)"
                raise QueryError(message, start, len(self.text) - start)
            if self.text.startswith("\\/", self.position):
                self.position += 1
            elif self.current == "\\":
                expression += self.current
                self.position += 1
            expression += self.current
            self.position += 1
        self.position += 1
        if not expression:
            message = "an empty regular expression (to look for //, as in an address, use quotes)"
            raise QueryError(message, start, self.position - start)
        if not self.is_at_boundary:
            message = "a blank is missing after the regular expression (to look for a / in text, use quotes)"
            raise QueryError(message, start, self.position - start)
        return start + 1, expression
