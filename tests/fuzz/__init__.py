"""Bytes of strangers, thrown at everything that reads some: `python -m tests.fuzz`."""
