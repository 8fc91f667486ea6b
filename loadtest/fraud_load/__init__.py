"""Streams of transactions against a running server: verification and the demonstration."""
