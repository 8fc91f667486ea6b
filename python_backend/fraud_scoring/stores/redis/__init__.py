"""The window store of many machines: a Redis server, or a Redis Cluster. docs/window-stores.md says what it promises.

address      a URL, and what may be shown of it
link         one connection: time-outs, TLS, login, what happens when the server is gone
servers      one server or the primaries of a cluster; one round trip for a batch
partitions   which keys lie together
births       whether it is still the store that was written to
layout       records and events as bytes
script       the commands that run the .lua files
busy         entities with more events than are read with each transaction: their ledgers
store        the window store over these; its atomic steps are the .lua files
"""
