"""The patterns of a topic exchange: words between dots, `*` for one word, `#` for any number of them.

Owns: the trie, and which patterns match a key (AMQP 0-9-1, 3.1.3.3). A match follows a set of nodes, a word
at a time, so it never takes longer than words x nodes, whatever the patterns. Refuses: what a pattern leads
to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class _TrieNode(Generic[V]):
    __slots__ = ("children", "takes_any", "values")

    def __init__(self, *, takes_any: bool = False) -> None:
        self.takes_any = takes_any
        """Whether it is that of `#`, which takes any number of words."""
        self.children: dict[str, _TrieNode[V]] = {}
        self.values: dict[V, int] = {}
        """Value -> how often it was added."""


class TopicTrie(Generic[V]):
    """Values by pattern."""

    def __init__(self) -> None:
        self._root: _TrieNode[V] = _TrieNode()

    def add(self, pattern: str, value: V) -> None:
        """Add a value. It may be added several times."""
        node = self._root
        for word in _words(pattern):
            child = node.children.get(word)
            if child is None:
                child = node.children[word] = _TrieNode(takes_any=word == "#")
            node = child
        node.values[value] = node.values.get(value, 0) + 1

    def remove(self, pattern: str, value: V) -> None:
        """Take back one `add`. KeyError: there was none."""
        path: list[tuple[_TrieNode[V], str]] = []
        node = self._root
        for word in _words(pattern):
            path.append((node, word))
            node = node.children[word]
        node.values[value] -= 1
        if not node.values[value]:
            del node.values[value]
        for parent, word in reversed(path):
            child = parent.children[word]
            if child.values or child.children:
                return
            del parent.children[word]

    def match(self, key: str) -> Iterator[V]:
        """The values whose patterns match a key; one that several match comes several times."""
        nodes = _closure([self._root])
        for word in _words(key):
            nodes = _closure(_after(nodes, word))
            if not nodes:
                return
        for node in nodes:
            yield from node.values


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _after(nodes: list[_TrieNode[V]], word: str) -> list[_TrieNode[V]]:
    """The nodes after one word. Words of a key that look like wildcards are matched by those anyway."""
    after: dict[int, _TrieNode[V]] = {}
    for node in nodes:
        if node.takes_any:
            after[id(node)] = node
        for name in (word, "*"):
            child = node.children.get(name)
            if child is not None:
                after[id(child)] = child
    return list(after.values())


def _closure(nodes: list[_TrieNode[V]]) -> list[_TrieNode[V]]:
    """These nodes, and those that follow by `#` without a word."""
    reached = {id(node): node for node in nodes}
    stack = list(nodes)
    while stack:
        child = stack.pop().children.get("#")
        if child is not None and id(child) not in reached:
            reached[id(child)] = child
            stack.append(child)
    return list(reached.values())
