"""The audit: who did what on which resource, allowed or denied, as events.

`events.py` says what is kept of an action, `trail.py` collects and counts, `file_sink.py` writes a file;
the embedded engine writes the topic (`engines/embedded/audit_topic.py`). Doors and decisions reach it by
callbacks, so that they do not know it.
"""
