"""The words of a query's text: characters, escapes, quotes.

Owns: where a word begins and ends, and which of its characters are to be taken literally. Knows nothing of
fields, values or operators. Used by `query` alone.
"""

from __future__ import annotations

import msgspec

from mainstem.search.query.errors import QueryError
from mainstem.search.text import globs


class Word(msgspec.Struct, frozen=True):
    """One word, as it was typed."""

    start: int
    end: int
    characters: tuple[tuple[str, bool], ...]
    """(character, whether it is literal: behind a backslash or in quotes)."""
    quoted: bool
    """It is one pair of quotes and nothing else."""
    quote_at: int | None
    """Where its first quote is."""

    @property
    def text(self) -> str:
        return "".join(character for character, _ in self.characters)

    @property
    def is_plain(self) -> bool:
        """Nothing in it was quoted or escaped."""
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
        """As the name of a field: its segments between dots."""
        segments = [""]
        for character, literal in self.characters:
            if character == "." and not literal:
                segments.append("")
            else:
                segments[-1] += character
        return tuple(segments)


class QueryLexer:
    """A place in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def skip_blanks(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    @property
    def current(self) -> str:
        """The character here; empty at the end."""
        return self.text[self.position : self.position + 1]

    @property
    def is_at_boundary(self) -> bool:
        """Whether a word that ended here ended by itself."""
        return not self.current or self.current.isspace() or self.current in "()"

    def operator(self) -> str:
        """AND, OR, NOT or TO if it is the next word, else empty. Does not move."""
        for word in ("AND", "OR", "NOT", "TO"):
            if self.text.startswith(word, self.position):
                after = self.text[self.position + len(word) : self.position + len(word) + 1]
                if not after or after.isspace() or after in "()":
                    return word
        return ""

    def word(self, stop: str) -> Word:
        """Up to a blank or one of `stop`. May be empty."""
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
                "a backslash stands before the character that is meant; here nothing follows", self.position
            )
        self.position += 2
        return self.text[self.position - 1], True

    def _in_quotes(self) -> str:
        start = self.position
        self.position += 1
        found = ""
        while self.current != '"':
            if not self.current:
                raise QueryError('the closing " is missing', start, len(self.text) - start)
            found += self._character()[0]
        self.position += 1
        return found

    def regex(self) -> tuple[int, str]:
        """(column, expression) between slashes. A slash in it has a backslash before it."""
        start = self.position
        self.position += 1
        found = ""
        while self.current != "/":
            if not self.current:
                message = "the closing / of the regular expression is missing (to look for a /, use quotes)"
                raise QueryError(message, start, len(self.text) - start)
            if self.text.startswith("\\/", self.position):
                self.position += 1
            elif self.current == "\\":
                found += self.current
                self.position += 1
            found += self.current
            self.position += 1
        self.position += 1
        if not found:
            message = "an empty regular expression (to look for //, as in an address, use quotes)"
            raise QueryError(message, start, self.position - start)
        if not self.is_at_boundary:
            message = "a blank is missing after the regular expression (to look for a / in text, use quotes)"
            raise QueryError(message, start, self.position - start)
        return start + 1, found
