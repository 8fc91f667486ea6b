"""The rollout judge: proves a canary on live traffic, steps it up, or throws it out.

betting     what counts of two arms say, however often one looks
settings    steps, tolerances, and how the error budget is shared
signs       what a row shows: events, by arm
evidence    counts and what follows from them, for one step
calibration late labels: observed frauds against scores
course      the state machine: go on, hold, roll back
journal     what was done and why, append-only
logs        the decision logs of all servers that follow one table, read as one
following   whether a server answers by the table that is in force
rollout     one rollout, from the log's rows to a decision
loop        the process: reads the logs, writes the routes
sight       how the logs stood at its last look
business    an A/B test in money
"""
