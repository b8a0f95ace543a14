"""Parses query text into a syntax tree. docs/SEARCH.md shows the language by examples, which a test runs.

    query   = or
    or      = and { "OR" and }
    and     = not { [ "AND" ] not }
    not     = { "NOT" } primary
    primary = "(" or ")" | name ":" value | regex | phrase | word | "*"
    value   = "(" values ")" | regex | phrase | word | range
    values  = as `or`, with `value` in the place of `primary`
    range   = ( ">" | ">=" | "<" | "<=" ) bound | ( "[" | "{" ) bound "TO" bound ( "]" | "}" )

A list of values is a short form: `a:(b OR c)` is `a:b OR a:c`.

Owns: the grammar, and the message and column of each QueryError. Refuses: to guess: an operator of another
query language raises a QueryError that says how to write it here. Values are checked in `validation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.search.query import shorthands, validation
from mainstem.search.query.ast import (
    And,
    Bound,
    Everything,
    Exists,
    Glob,
    Node,
    Not,
    Or,
    Range,
    Regex,
    Term,
    TermTarget,
    Test,
    Text,
)
from mainstem.search.query.errors import QueryError
from mainstem.search.query.format import format_path, format_query
from mainstem.search.query.lexer import QueryLexer, Word
from mainstem.search.text.numbers import number_of

__all__ = ["QueryError", "format_path", "format_query", "parse"]

LENGTH_MAX = 10_000
"""Maximum characters of a query."""
DEPTH_MAX = 50
"""Maximum nesting of brackets and NOTs."""
EXISTS = "_exists_"
FREE = TermTarget("text")
FOREIGN = {
    "-": "a leading - does not exclude here: write NOT, or put the text in quotes",
    "+": "a leading + is not needed: all words must match; to look for it, use quotes",
    "!": "write NOT instead of !, or put the text in quotes",
    "&&": "write AND instead of &&, or put it in quotes",
    "||": "write OR instead of ||, or put it in quotes",
}


def parse(text: str) -> Node:
    """The syntax tree of a query. Raises QueryError with the column of the mistake."""
    if len(text) > LENGTH_MAX:
        raise QueryError(f"a query has at most {LENGTH_MAX:,} characters", LENGTH_MAX, len(text) - LENGTH_MAX)
    for column, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise QueryError("this is half of a surrogate pair, not a Unicode character", column)
    return _Parser(text).query()


def target_of(word: Word) -> TermTarget:
    """The part of an event that a name before a colon denotes: `key`, `topic` and the like, unless quoted or
    escaped; else a header or a payload field."""
    path = word.path()
    length = word.end - word.start
    first_is_plain = word.quote_at != word.start and not any(literal for _, literal in word.characters[:7])
    if first_is_plain and path[0] == "header":
        if not "".join(path[1:]):
            message = 'which header? Write header.NAME: (for a field of the payload, "header":)'
            raise QueryError(message, word.start, length)
        return TermTarget("header", (".".join(path[1:]),))
    if word.quote_at is None and "" in path:
        message = "a name is missing before or after a dot (to use a dot within a name, escape it: \\.)"
        raise QueryError(message, word.start, length)
    if word.is_plain:
        match word.text:
            case "key" | "topic" | "partition" | "offset" | "time" as kind:
                return TermTarget(kind)
            case _:
                pass
    return TermTarget("field", path)


class _Parser:
    """A recursive-descent parser: one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.lexer = QueryLexer(text)
        self.depth = 0

    def query(self) -> Node:
        self.lexer.skip_blanks()
        if not self.lexer.current:
            return Everything()
        node = self.any_of(self.primary)
        if self.lexer.current:
            raise QueryError("there is no ( for this )", self.lexer.position)
        return node

    # ------------------------------------------------------------------------------------------------------
    # operators, the same among terms and among the values of a list

    def any_of(self, primary: Callable[[], Node]) -> Node:
        children = [self.all_of(primary)]
        while self.lexer.operator() == "OR":
            self.lexer.position += 2
            children.append(self.all_of(primary))
        return joined(Or, children)

    def all_of(self, primary: Callable[[], Node]) -> Node:
        children = [self.negated(primary)]
        while True:
            self.lexer.skip_blanks()
            if not self.lexer.current or self.lexer.current == ")" or self.lexer.operator() == "OR":
                return joined(And, children)
            if self.lexer.operator() == "AND":
                self.lexer.position += 3
            children.append(self.negated(primary))

    def negated(self, primary: Callable[[], Node]) -> Node:
        self.lexer.skip_blanks()
        operator = self.lexer.operator()
        if operator == "NOT":
            start = self.lexer.position
            self.lexer.position += 3
            return Not(self.deeper(start, lambda: self.negated(primary)))
        if operator in ("AND", "OR"):
            message = f"something to match is missing before {operator} (to look for the word, use quotes)"
            raise QueryError(message, self.lexer.position, len(operator))
        if not self.lexer.current or self.lexer.current == ")":
            raise QueryError("something to match is missing here", self.lexer.position)
        return primary()

    def group(self, primary: Callable[[], Node]) -> Node:
        start = self.lexer.position
        self.lexer.position += 1
        node = self.deeper(start, lambda: self.any_of(primary))
        if not self.lexer.current:
            raise QueryError("the closing ) is missing", start)
        self.lexer.position += 1
        return node

    def deeper(self, start: int, inner: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise QueryError(f"more than {DEPTH_MAX} brackets and NOTs inside each other", start)
        node = inner()
        self.depth -= 1
        return node

    # ------------------------------------------------------------------------------------------------------
    # terms

    def primary(self) -> Node:
        start = self.lexer.position
        if self.lexer.current == "(":
            return self.group(self.primary)
        if self.lexer.current == "/":
            return self.regex(FREE)
        for sign, message in FOREIGN.items():
            if self.lexer.text.startswith(sign, start):
                raise QueryError(message, start, len(sign))
        word = self.lexer.word(stop="():")
        if self.lexer.current == ":":
            field_word = self.lexer.position
            self.lexer.position = start
            whole = self.lexer.word(stop="()")
            if not (whole.is_plain and self.is_free(whole.text)):
                self.lexer.position = field_word
                return self.field(word)
            word = whole
        if word.is_plain and word.text == "*":
            return Everything()
        return self.free_text(word)

    @staticmethod
    def is_free(text: str) -> bool:
        """Whether a word with a colon is free text all the same."""
        return shorthands.is_text_with_colons(text) or shorthands.comparison(text) is not None

    def free_text(self, word: Word) -> Node:
        """A word of free text, and what it means besides: `shorthands.py`."""
        text = self.term(FREE, self.free_test(word), word)
        if not word.is_plain:
            return text
        choices = [Term(FREE, Glob(pattern)) for pattern in shorthands.patterns(word.text)]
        compared = shorthands.comparison(word.text)
        if compared is not None and (term := self.compared_field(word, compared)) is not None:
            choices.append(term)
        return joined(Or, [text, *choices])

    def compared_field(self, word: Word, compared: shorthands.ComparisonWord) -> Term | None:
        """The test of a field in a comparison. None: this part of an event cannot be compared so."""
        name, operator, value = compared
        length = word.end - word.start
        if operator == "!=":
            raise QueryError(
                f"write NOT {name}:{value} (to look for the text, use quotes)", word.start, length
            )
        characters = tuple((character, False) for character in name)
        test: Test
        if operator in ("=", "=="):
            test = Glob(value) if set(value) & set("*?") else Text(value)
        else:
            bound = Bound(value, "=" in operator, False)
            test = Range(None, bound) if operator[0] == "<" else Range(bound, None)
        try:
            target = target_of(Word(word.start, word.end, characters, False, None))
            validation.check_test(target, test, word.start, length)
        except QueryError:
            return None
        return Term(target, test)

    def field(self, word: Word) -> Node:
        start = word.start
        self.lexer.position += 1
        if not word.characters and not word.quoted:
            raise QueryError("the name of a field is missing before the :", start)
        if word.is_plain and word.text == EXISTS:
            return self.exists()
        target = target_of(word)
        if word.is_pattern and target.kind == "field":
            raise QueryError(
                "a field's name has no wildcards (escape * and ? in it)", start, word.end - start
            )
        return self.value(target)

    def exists(self) -> Node:
        name = self.lexer.word(stop="():")
        length = name.end - name.start
        if not name.characters and not name.quoted:
            raise QueryError(f"the name of a field is missing after {EXISTS}:", name.start)
        target = target_of(name)
        if target.kind not in ("field", "key", "header"):
            message = f"every event has {target.kind}; for a field of the payload with this name, use quotes"
            raise QueryError(message, name.start, length)
        return Term(target, Exists())

    def value(self, target: TermTarget) -> Node:
        match self.lexer.current:
            case "(":
                return self.group(lambda: self.value(target))
            case "/":
                return self.regex(target)
            case "[" | "{":
                return self.range(target)
            case "<" | ">":
                return self.comparison(target)
        word = self.lexer.word(stop="()")
        if not word.characters and not word.quoted:
            message = 'a value is missing after the : (no blank may stand before it; an empty text is "")'
            raise QueryError(message, self.lexer.position)
        return self.term(target, self.word_test(word), word)

    def word_test(self, word: Word) -> Test:
        self.no_inner_quotes(word)
        if word.is_pattern:
            return Glob(word.pattern)
        return Text(word.text, quotes_matter(word))

    def free_test(self, word: Word) -> Test:
        """In free text quotes only keep words together; a number is a word there, quoted or not."""
        test = self.word_test(word)
        return Text(test.text) if isinstance(test, Text) else test

    def no_inner_quotes(self, word: Word) -> None:
        if word.quote_at is not None and not word.quoted:
            message = 'quotes go around the whole value; to look for a ", escape it with a backslash'
            raise QueryError(message, word.quote_at)

    def regex(self, target: TermTarget) -> Node:
        column, pattern = self.lexer.regex()
        validation.check_regex(pattern, column)
        validation.check_test(target, Regex(pattern), column, len(pattern))
        return Term(target, Regex(pattern))

    # ------------------------------------------------------------------------------------------------------
    # ranges

    def comparison(self, target: TermTarget) -> Node:
        start = self.lexer.position
        upper = self.lexer.current == "<"
        self.lexer.position += 1
        inclusive = self.lexer.current == "="
        self.lexer.position += inclusive
        self.lexer.skip_blanks()
        bound = self.bound("()", inclusive)
        if bound is None:
            raise QueryError("a number, a time or a text is missing here", start, self.lexer.position - start)
        return self.ranged(target, Range(None, bound) if upper else Range(bound, None), start)

    def range(self, target: TermTarget) -> Node:
        start = self.lexer.position
        low_inclusive = self.lexer.current == "["
        self.lexer.position += 1
        self.lexer.skip_blanks()
        low = self.bound("[]{}()", low_inclusive)
        self.lexer.skip_blanks()
        if self.lexer.operator() != "TO":
            raise QueryError(
                "a range is written [a TO b]; an open end is a *", start, max(self.lexer.position - start, 1)
            )
        self.lexer.position += 2
        self.lexer.skip_blanks()
        high = self.bound("[]{}()", True)
        self.lexer.skip_blanks()
        if self.lexer.current not in ("]", "}"):
            raise QueryError("the closing ] or } of the range is missing", start, self.lexer.position - start)
        if high is not None and self.lexer.current == "}":
            high = Bound(high.text, False, high.quoted)
        self.lexer.position += 1
        if not self.lexer.is_at_boundary:
            raise QueryError("a blank is missing after the range", self.lexer.position)
        return self.ranged(target, Range(low, high), start)

    def bound(self, stop: str, inclusive: bool) -> Bound | None:
        """Read one end of a range; None is an open end."""
        if self.lexer.operator() == "TO":
            raise QueryError("this end of the range is missing; an open end is a *", self.lexer.position, 2)
        word = self.lexer.word(stop)
        length = word.end - word.start
        if not word.characters and not word.quoted:
            raise QueryError("this end of the range is missing; an open end is a *", self.lexer.position)
        self.no_inner_quotes(word)
        if word.is_plain and word.text == "*":
            return None
        if word.is_pattern:
            raise QueryError("an end of a range has no wildcards", word.start, length)
        return Bound(word.text, inclusive, word.quoted and number_of(word.text) is not None)

    def ranged(self, target: TermTarget, test: Range, start: int) -> Node:
        validation.check_test(target, test, start, self.lexer.position - start)
        return Term(target, test)

    def term(self, target: TermTarget, test: Test, word: Word) -> Node:
        if not self.lexer.is_at_boundary:
            raise QueryError("a blank is missing here", self.lexer.position)
        validation.check_test(target, test, word.start, word.end - word.start)
        return Term(target, test)


def quotes_matter(word: Word) -> bool:
    """Whether the quotes or backslashes of this value change its meaning: `"1"` is text and not a number,
    `"null"` is a word and not JSON's null."""
    if word.is_plain:
        return False
    return number_of(word.text) is not None or word.text.casefold() == "null"


def joined(kind: type[And] | type[Or], children: Sequence[Node]) -> Node:
    """Combine nodes into one; nested nodes of the same kind are flattened."""
    flat: list[Node] = []
    for child in children:
        flat.extend(child.children if isinstance(child, kind) else [child])
    return flat[0] if len(flat) == 1 else kind(tuple(flat))
