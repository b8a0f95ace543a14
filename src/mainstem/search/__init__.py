"""Search: which events match a query, the same for the console, HTTP, the command line and Python."""
