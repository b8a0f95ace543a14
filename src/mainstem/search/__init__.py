"""Finds the events that match a query, for the console, HTTP, the command line and Python."""
