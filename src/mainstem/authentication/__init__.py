"""Authentication: who a client is, proven by a password, a SCRAM exchange or a signed token.

Owns: the mechanisms of SASL (SCRAM, PLAIN, OAUTHBEARER), the check of passwords and tokens for every door,
and the lockout of those who guess. Refuses: sockets and doors (bytes come in, bytes and an `Identity` go
out), and what somebody may do: that is decided by the authorizer. Verifiers of passwords come from
`AccessAdmin`.

Whatever is not proven is refused: an error in a check is a failed check.
"""
