"""The console: a web page that shows topics, searches events and looks after groups.

Owns: index.html and static/, plain files that a browser runs as they are (ES modules, no build). Refuses:
any Python that does work: the page knows the server by its HTTP API only. Read by `doors/http`, which serves
`index.html` at / and `static/` at /static. docs/CONSOLE.md is its manual.
"""
