"""The process beside Triton that tails the decision log: exact counts, drift, evidence, quality, metrics.

reference    what a release carries about its own inputs, scores and decisions; counting rows against it
binning      how a reference is made from rows
statistics   effect sizes as functions of counts, with their distributions under no drift
evidence     when the counts say that something moved, at a stated rate of false pages
alerts       evidence AND effect: what is told to people
quality      missing values, calibration, performance before and after labels
"""
