"""The console: a web page that shows topics, searches events and manages consumer groups.

Owns: index.html and static/, plain files that a browser runs as they are (ES modules, no build step).
Refuses: Python code: the page uses the HTTP API of the server only. `doors/http` serves `index.html` at / and
`static/` at /static. docs/CONSOLE.md is its manual.
"""
