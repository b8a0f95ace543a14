"""The console: its files as they lie, and its pages in a real browser."""
