"""The version of this package.

Owns: its text; pyproject.toml has the same, and a test compares them. Refuses: to import anything, so that
everything can import it.
"""

__version__ = "0.1.0"
