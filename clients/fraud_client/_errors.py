"""What can go wrong, as one small tree.

    FraudClientError
    ├── InvalidRequest         a rule is broken, found here or by the server; nothing was recorded
    │   └── CardNumberRefused  an identifier looks like a card number; nothing was sent
    ├── DeadlineExceeded       no answer in time; it may have been recorded
    ├── NotAllowed             a gateway does not know this caller, or what it asked for is not its to ask
    ├── Overloaded             too many calls wait in this client, or a gateway's limit is reached; nothing was scored
    ├── Unavailable            no server, or one that takes no requests now
    └── ServerFailed           any other failure of the server, or an answer that breaks the contract

To send the same transaction again is always safe: a transaction_id counts once and gets the same answer. Messages name
the field, its rule and the remedy, and never repeat the value of an identifier.
"""

from __future__ import annotations


class FraudClientError(Exception):
    """Base of every error that this library raises on purpose."""


class InvalidRequest(FraudClientError):
    """The transaction, label or option breaks a rule: the remedy is with the caller."""


class CardNumberRefused(InvalidRequest):
    """An identifier looks like a card number and was not sent."""


class DeadlineExceeded(FraudClientError):
    """No answer within the deadline."""


class NotAllowed(FraudClientError):
    """The gateway refuses the caller, or what it asks for."""


class Overloaded(FraudClientError):
    """As many calls wait, or come, as may; this one was not scored."""


class Unavailable(FraudClientError):
    """The server cannot be reached, or takes no requests now."""


class ServerFailed(FraudClientError):
    """The server failed, or its answer breaks the wire contract."""
