"""The HTTP API as types: its requests, its replies and its problems, one noun per file.

Owns: the names, types, limits and descriptions of all JSON fields and query parameters. The HTTP door reads
and writes these types and makes the OpenAPI document from them. The command line's HTTP client uses the same
types, so that the two sides cannot disagree. A field that a later version adds gets a default, so that the
replies of older servers can still be decoded. Refuses: sockets, and any code of a server or a client.
"""
