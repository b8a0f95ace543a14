"""Views of an engine and of a search for one requester: every call is checked before it is passed on."""
