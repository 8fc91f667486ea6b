"""Transactions to a release: split by time, train, calibrate, set thresholds, evaluate, export, check, write."""
