"""What is left when a machine is gone: backup and restore of all that a server keeps, and what happened, from the log.

archive        a folder with a manifest of hashes: whole under its name, or not there
log_part       the decision log, copied while it is written
store_part     the window store, copied while it is used; redis_part the one in a Redis
files_part     releases, route table, registry, and what a home remembers
backup         all of these, in the order that lets the log complete the store
restore        everything verified, then put in place, then completed from the log
shipping       the decision log, sent to another place while it is written
log_replay     what the log has and a store may lack, into the store
timeline       what happened between two moments
"""
