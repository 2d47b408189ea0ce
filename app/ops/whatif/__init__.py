"""`python -m app whatif`: recorded turns, replayed through the gate at other sizes.

`turns` reads the log, `burst` makes it burstier, `replay` is the gate, `figures` says what came of it, `advice` what to
do about it, `erlang` is the sanity line; `report` and `plot` show it. All of these are pure; `command` and `sweep` are
the edges.
"""
