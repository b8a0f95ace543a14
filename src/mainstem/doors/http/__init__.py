"""The HTTP door: JSON for programs, and the console's page.

Owns: nothing of the stream: it is handed an engine (`mainstem.contract.Engine`) and speaks HTTP for it. Each
file holds one noun; the list of all routes is `endpoints.py`, and the OpenAPI document is made from it.
"""
