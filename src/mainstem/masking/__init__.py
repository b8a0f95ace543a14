"""Masking: fields of events that some people may not see.

`rules.py` says what a rule is and whom it applies to, `mask.py` masks the events of a topic, and
`query_check.py` refuses queries that would reveal what is masked. Pure: rules are kept by the coordinator.
"""
