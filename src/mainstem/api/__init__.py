"""The Python API: what `import mainstem` gives to programs that publish and subscribe.

Owns: typed topics, codecs, subscribers and requests, over the contracts of the engines. Refuses: knowledge of
a wire or of the log; which place a program is connected to is behind `mainstem.api.backend`.
"""
