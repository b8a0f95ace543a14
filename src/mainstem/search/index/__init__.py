"""The full-text index of topics with `mainstem.search=indexed`: which batches have a word."""

from importlib.util import find_spec


def unavailable_reason() -> str | None:
    """Why full-text indexes cannot be built or queried in this installation, and what to do about it. None:
    they can."""
    if find_spec("tantivy") is not None:
        return None
    return "tantivy is not installed: pip install 'mainstem[index]'"
