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


class Scanner:
    """A place in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    @property
    def next(self) -> str:
        """The character here; empty at the end."""
        return self.text[self.at : self.at + 1]

    @property
    def at_boundary(self) -> bool:
        """Whether a word that ended here ended by itself."""
        return not self.next or self.next.isspace() or self.next in "()"

    def operator(self) -> str:
        """AND, OR, NOT or TO if it is the next word, else empty. Does not move."""
        for word in ("AND", "OR", "NOT", "TO"):
            if self.text.startswith(word, self.at):
                after = self.text[self.at + len(word) : self.at + len(word) + 1]
                if not after or after.isspace() or after in "()":
                    return word
        return ""

    def word(self, stop: str) -> Word:
        """Up to a blank or one of `stop`. May be empty."""
        start, quoted, quote_at, pieces = self.at, False, None, 0
        characters: list[tuple[str, bool]] = []
        while self.next and not self.next.isspace() and self.next not in stop:
            pieces += 1
            if self.next == '"':
                quote_at = self.at if quote_at is None else quote_at
                quoted = pieces == 1
                characters.extend((character, True) for character in self._in_quotes())
            else:
                quoted = False
                characters.append(self._character())
        return Word(start, self.at, tuple(characters), quoted, quote_at)

    def _character(self) -> tuple[str, bool]:
        if self.next != "\\":
            self.at += 1
            return self.text[self.at - 1], False
        if self.at + 1 == len(self.text):
            raise QueryError(
                "a backslash stands before the character that is meant; here nothing follows", self.at
            )
        self.at += 2
        return self.text[self.at - 1], True

    def _in_quotes(self) -> str:
        start = self.at
        self.at += 1
        found = ""
        while self.next != '"':
            if not self.next:
                raise QueryError('the closing " is missing', start, len(self.text) - start)
            found += self._character()[0]
        self.at += 1
        return found

    def regex(self) -> tuple[int, str]:
        """(column, expression) between slashes. A slash in it has a backslash before it."""
        start = self.at
        self.at += 1
        found = ""
        while self.next != "/":
            if not self.next:
                message = "the closing / of the regular expression is missing (to look for a /, use quotes)"
                raise QueryError(message, start, len(self.text) - start)
            if self.text.startswith("\\/", self.at):
                self.at += 1
            elif self.next == "\\":
                found += self.next
                self.at += 1
            found += self.next
            self.at += 1
        self.at += 1
        if not found:
            message = "an empty regular expression (to look for //, as in an address, use quotes)"
            raise QueryError(message, start, self.at - start)
        if not self.at_boundary:
            message = "a blank is missing after the regular expression (to look for a / in text, use quotes)"
            raise QueryError(message, start, self.at - start)
        return start + 1, found
