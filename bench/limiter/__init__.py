"""The adaptive limit and the pacer in front of simulated hosts, in virtual time: `python -m bench.limiter`.

Gate, pacer, limit and retries are the server's own. Each host can be asked as an oracle too, which lets a call wait
exactly as long as it must, in place of refusing it: what that answers is all that there was to get.
"""
