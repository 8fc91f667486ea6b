"""Other frameworks doing the same job, each in an environment of its own; `fraud_bench.rivals` starts them.

Each folder holds an application, the requirements it is installed from, and nothing of the job: that is
`fraud_bench.same_job`, the code that the front door runs.
"""
