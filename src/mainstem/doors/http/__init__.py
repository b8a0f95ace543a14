"""The HTTP door: a JSON API for programs, and the files of the console.

Owns: HTTP for an engine (`mainstem.contract.Engine`) that it is given. Refuses: any other access to the event
log. `routes/` has one file per noun, `endpoints.py` lists all routes, and the OpenAPI document is made from
that list. The JSON types are in `mainstem.http_api`.
"""
