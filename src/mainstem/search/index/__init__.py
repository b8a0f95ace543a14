"""The full-text index of topics set `mainstem.search=indexed`: which batches have a word."""
