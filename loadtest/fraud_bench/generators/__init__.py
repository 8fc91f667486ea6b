"""Programs that make load. Each runs in a process of its own, `python -m fraud_bench.generators.NAME SPEC`, where SPEC
is JSON; it prints one JSON object (an `Outcome`) and lives on until its standard input is closed, so that what it used
can be read.
"""
