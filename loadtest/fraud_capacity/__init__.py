"""From what was measured to what must be bought: servers, Redis, log, generators, money.

model    what a transaction costs at a concurrency, fitted to the rows of a benchmark
sizes    bytes of the log, of LMDB, of a Redis, measured on real ones
prices   what things cost: a file of yours
plan     how many of each, and what a million predictions cost
check    each prediction against another measurement
"""
