"""The full-text index of topics set `mainstem.search=indexed`: which batches have a word."""

from importlib.util import find_spec


def unavailable_reason() -> str | None:
    """Why no index can be made or asked here, and what to do; None: it can."""
    if find_spec("tantivy") is not None:
        return None
    return "tantivy is not installed: pip install 'mainstem[index]'"
