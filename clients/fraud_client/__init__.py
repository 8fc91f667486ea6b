"""Client of fraudserve: typed transactions in, typed decisions out, over gRPC; blocking or asyncio.

    with FraudClient("localhost:8001", token_key=key) as client:
        decision = client.score(Transaction(17, datetime.now(timezone.utc), "C-42", "T-9", Decimal("12.50")))

Identifiers leave the process only as keyed tokens, card numbers not at all.
"""

from __future__ import annotations

from fraud_client._access import Access
from fraud_client._async import AsyncFraudClient
from fraud_client._breaker import BreakerState
from fraud_client._decision import Decision, Reason
from fraud_client._errors import (
    CardNumberRefused,
    DeadlineExceeded,
    FraudClientError,
    InvalidRequest,
    NotAllowed,
    Overloaded,
    ServerFailed,
    Unavailable,
)
from fraud_client._policy import Policy
from fraud_client._protocol import DEFAULT_DEADLINE, Call, Label, Scored
from fraud_client._stats import EndpointStats, Stats
from fraud_client._sync import FraudClient
from fraud_client._tokens import TOKEN_KEY_VARIABLE, Token, Tokenizer
from fraud_client._transaction import Transaction
from fraud_client._transport import (
    DEFAULT_URL,
    AsyncGrpcTransport,
    AsyncTransport,
    GrpcTransport,
    Transport,
)
from fraud_scoring.wire import Accepted, Source
from fraud_scoring.wire import Decision as Action

__all__ = [
    "DEFAULT_DEADLINE",
    "DEFAULT_URL",
    "TOKEN_KEY_VARIABLE",
    "Accepted",
    "Access",
    "Action",
    "AsyncFraudClient",
    "AsyncGrpcTransport",
    "AsyncTransport",
    "BreakerState",
    "Call",
    "CardNumberRefused",
    "DeadlineExceeded",
    "Decision",
    "EndpointStats",
    "FraudClient",
    "FraudClientError",
    "GrpcTransport",
    "InvalidRequest",
    "Label",
    "NotAllowed",
    "Overloaded",
    "Policy",
    "Reason",
    "Scored",
    "ServerFailed",
    "Source",
    "Stats",
    "Token",
    "Tokenizer",
    "Transaction",
    "Transport",
    "Unavailable",
]
