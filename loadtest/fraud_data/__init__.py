"""Transactions as files: simulate them, read and check what others have, write the canonical Parquet file."""

from fraud_data.files import read_transactions, write_transactions
from fraud_data.simulator import Progress, SimulatorSettings, simulate
from fraud_data.summary import describe
from fraud_data.transactions import Transactions

__all__ = [
    "Progress",
    "SimulatorSettings",
    "Transactions",
    "describe",
    "read_transactions",
    "simulate",
    "write_transactions",
]
