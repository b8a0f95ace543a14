"""The query language: text -> tree. docs/SEARCH.md shows it by examples, which a test runs.

    query   = or
    or      = and { "OR" and }
    and     = not { [ "AND" ] not }
    not     = { "NOT" } primary
    primary = "(" or ")" | name ":" value | regex | phrase | word | "*"
    value   = "(" values as above ")" | regex | phrase | word | range
    range   = ( ">" | ">=" | "<" | "<=" ) bound | ( "[" | "{" ) bound "TO" bound ( "]" | "}" )

Owns: the grammar, and every error with its column. Refuses: to guess. What looks like another language's
operator is an error that says how it is written here. A list of values is only a short form: `a:(b OR c)` is
`a:b OR a:c`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.search.query import validation
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
"""Characters of a query."""
DEPTH_MAX = 50
"""Brackets and NOTs inside each other."""
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
    """What a query means. QueryError points at what is wrong."""
    if len(text) > LENGTH_MAX:
        raise QueryError(f"a query has at most {LENGTH_MAX:,} characters", LENGTH_MAX, len(text) - LENGTH_MAX)
    for column, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise QueryError("this is not a character that Unicode knows", column)
    return _Parser(text).query()


def target_of(word: Word) -> TermTarget:
    """Where a name leads. A name whose first part is quoted or escaped is always a field of the payload."""
    path = word.path()
    length = word.end - word.start
    first_is_plain = word.quote_at != word.start and not any(literal for _, literal in word.characters[:7])
    if first_is_plain and path[0] == "header":
        if not "".join(path[1:]):
            message = 'which header? Write header.NAME: (for a field of the payload, "header":)'
            raise QueryError(message, word.start, length)
        return TermTarget("header", (".".join(path[1:]),))
    if word.quote_at is None and "" in path:
        message = "a name is missing before or after a dot (a dot within a name has a backslash before it)"
        raise QueryError(message, word.start, length)
    if word.is_plain:
        match word.text:
            case "key" | "topic" | "partition" | "offset" | "time" as kind:
                return TermTarget(kind)
            case _:
                pass
    return TermTarget("field", path)


class _Parser:
    def __init__(self, text: str) -> None:
        self.scan = QueryLexer(text)
        self.depth = 0

    def query(self) -> Node:
        self.scan.skip_blanks()
        if not self.scan.current:
            return Everything()
        node = self.any_of(self.primary)
        if self.scan.current:
            raise QueryError("there is no ( for this )", self.scan.position)
        return node

    # ------------------------------------------------------------------------------------------------------
    # operators, the same among terms and among the values of a list

    def any_of(self, primary: Callable[[], Node]) -> Node:
        children = [self.all_of(primary)]
        while self.scan.operator() == "OR":
            self.scan.position += 2
            children.append(self.all_of(primary))
        return joined(Or, children)

    def all_of(self, primary: Callable[[], Node]) -> Node:
        children = [self.negated(primary)]
        while True:
            self.scan.skip_blanks()
            if not self.scan.current or self.scan.current == ")" or self.scan.operator() == "OR":
                return joined(And, children)
            if self.scan.operator() == "AND":
                self.scan.position += 3
            children.append(self.negated(primary))

    def negated(self, primary: Callable[[], Node]) -> Node:
        self.scan.skip_blanks()
        operator = self.scan.operator()
        if operator == "NOT":
            start = self.scan.position
            self.scan.position += 3
            return Not(self.deeper(start, lambda: self.negated(primary)))
        if operator in ("AND", "OR"):
            message = f"something to match is missing before {operator} (to look for the word, use quotes)"
            raise QueryError(message, self.scan.position, len(operator))
        if not self.scan.current or self.scan.current == ")":
            raise QueryError("something to match is missing here", self.scan.position)
        return primary()

    def group(self, primary: Callable[[], Node]) -> Node:
        start = self.scan.position
        self.scan.position += 1
        node = self.deeper(start, lambda: self.any_of(primary))
        if not self.scan.current:
            raise QueryError("the closing ) is missing", start)
        self.scan.position += 1
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
        start = self.scan.position
        if self.scan.current == "(":
            return self.group(self.primary)
        if self.scan.current == "/":
            return self.regex(FREE)
        for sign, message in FOREIGN.items():
            if self.scan.text.startswith(sign, start):
                raise QueryError(message, start, len(sign))
        word = self.scan.word(stop="():")
        if self.scan.current == ":":
            return self.field(word)
        if word.is_plain and word.text == "*":
            return Everything()
        return self.term(FREE, self.free_test(word), word)

    def field(self, word: Word) -> Node:
        start = word.start
        self.scan.position += 1
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
        name = self.scan.word(stop="():")
        length = name.end - name.start
        if not name.characters and not name.quoted:
            raise QueryError(f"the name of a field is missing after {EXISTS}:", name.start)
        target = target_of(name)
        if target.kind not in ("field", "key", "header"):
            message = f"every event has {target.kind}; for a field of the payload with this name, use quotes"
            raise QueryError(message, name.start, length)
        return Term(target, Exists())

    def value(self, target: TermTarget) -> Node:
        match self.scan.current:
            case "(":
                return self.group(lambda: self.value(target))
            case "/":
                return self.regex(target)
            case "[" | "{":
                return self.range(target)
            case "<" | ">":
                return self.comparison(target)
        word = self.scan.word(stop="()")
        if not word.characters and not word.quoted:
            message = 'a value is missing after the : (no blank may stand before it; an empty text is "")'
            raise QueryError(message, self.scan.position)
        return self.term(target, self.word_test(word), word)

    def word_test(self, word: Word) -> Test:
        self.no_inner_quotes(word)
        if word.is_pattern:
            return Glob(word.pattern)
        return Text(word.text, matters(word))

    def free_test(self, word: Word) -> Test:
        """In free text quotes only hold words together: numbers are words there, too."""
        test = self.word_test(word)
        return Text(test.text) if isinstance(test, Text) else test

    def no_inner_quotes(self, word: Word) -> None:
        if word.quote_at is not None and not word.quoted:
            message = 'quotes go around the whole text; a " that is meant has a backslash before it'
            raise QueryError(message, word.quote_at)

    def regex(self, target: TermTarget) -> Node:
        column, pattern = self.scan.regex()
        validation.check_regex(pattern, column)
        validation.check_test(target, Regex(pattern), column, len(pattern))
        return Term(target, Regex(pattern))

    # ------------------------------------------------------------------------------------------------------
    # ranges

    def comparison(self, target: TermTarget) -> Node:
        start = self.scan.position
        upper = self.scan.current == "<"
        self.scan.position += 1
        inclusive = self.scan.current == "="
        self.scan.position += inclusive
        self.scan.skip_blanks()
        bound = self.bound("()", inclusive)
        if bound is None:
            raise QueryError("a number, a time or a text is missing here", start, self.scan.position - start)
        return self.ranged(target, Range(None, bound) if upper else Range(bound, None), start)

    def range(self, target: TermTarget) -> Node:
        start = self.scan.position
        low_inclusive = self.scan.current == "["
        self.scan.position += 1
        self.scan.skip_blanks()
        low = self.bound("[]{}()", low_inclusive)
        self.scan.skip_blanks()
        if self.scan.operator() != "TO":
            raise QueryError(
                "a range is written [a TO b]; an open end is a *", start, max(self.scan.position - start, 1)
            )
        self.scan.position += 2
        self.scan.skip_blanks()
        high = self.bound("[]{}()", True)
        self.scan.skip_blanks()
        if self.scan.current not in ("]", "}"):
            raise QueryError("the closing ] or } of the range is missing", start, self.scan.position - start)
        if high is not None and self.scan.current == "}":
            high = Bound(high.text, False, high.quoted)
        self.scan.position += 1
        if not self.scan.is_at_boundary:
            raise QueryError("a blank is missing after the range", self.scan.position)
        return self.ranged(target, Range(low, high), start)

    def bound(self, stop: str, inclusive: bool) -> Bound | None:
        """None: an open end."""
        if self.scan.operator() == "TO":
            raise QueryError("this end of the range is missing; an open end is a *", self.scan.position, 2)
        word = self.scan.word(stop)
        length = word.end - word.start
        if not word.characters and not word.quoted:
            raise QueryError("this end of the range is missing; an open end is a *", self.scan.position)
        self.no_inner_quotes(word)
        if word.is_plain and word.text == "*":
            return None
        if word.is_pattern:
            raise QueryError("an end of a range has no wildcards", word.start, length)
        return Bound(word.text, inclusive, word.quoted and number_of(word.text) is not None)

    def ranged(self, target: TermTarget, test: Range, start: int) -> Node:
        validation.check_test(target, test, start, self.scan.position - start)
        return Term(target, test)

    def term(self, target: TermTarget, test: Test, word: Word) -> Node:
        if not self.scan.is_at_boundary:
            raise QueryError("a blank is missing here", self.scan.position)
        validation.check_test(target, test, word.start, word.end - word.start)
        return Term(target, test)


def matters(word: Word) -> bool:
    """Whether the quotes (or backslashes) of this value change what it means."""
    if word.is_plain:
        return False
    return number_of(word.text) is not None or word.text.casefold() == "null"


def joined(kind: type[And] | type[Or], children: Sequence[Node]) -> Node:
    """One node of several; an And in an And is one And."""
    flat: list[Node] = []
    for child in children:
        flat.extend(child.children if isinstance(child, kind) else [child])
    return flat[0] if len(flat) == 1 else kind(tuple(flat))
