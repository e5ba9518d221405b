"""The rules of live bars as functions of state, event and time.

No module in here reads a clock, a file or a socket. The caller passes monotonic time in seconds as
`now`, carries out what a function returns, and reports the outcome as the next event.
"""
