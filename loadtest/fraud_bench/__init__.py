"""The benchmark: rows of measurements taken in turn in one run, medians, ratios, targets, and a table of it all.

feed          transactions that nobody scored before, as dense in time as the history before them
loads         what can be asked of a server, and what is measured of it
generators/   programs that make load, each in a process of its own
servers       the served stack, the floor of bare python hops, peers: started, quiet, ended
rows          the rows of the table
rounds        rows in turn, medians
targets       what must be reached, and whether it was
report        the table, as text and as Markdown
"""
