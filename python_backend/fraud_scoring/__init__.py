"""The pure core of fraudserve and everything that runs inside Triton's python processes.

Data's way: `wire` (the contract) → `validation` → `front_door` → `features` over `windows` and a `stores` store →
the release's model → `decision` → `front_door` records and answers.
"""
