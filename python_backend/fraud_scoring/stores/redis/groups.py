"""Keys of a batch that may be named in one command: all of them on one server, those of a partition on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fraud_scoring.stores.redis.partitions import KeyNames, partition_of
from fraud_scoring.windows import Int64


@dataclass(frozen=True)
class Group:
    """Their partition, which of the batch they are, and their names."""

    partition: int
    members: Int64
    names: bytes


def grouped(names: KeyNames, keys: Int64, *, clustered: bool) -> list[Group]:
    """Keys int64 [N] of one kind in groups."""
    if not len(keys):
        return []
    partitions = partition_of(keys)
    if not clustered:
        return [Group(0, np.arange(len(keys)), names.arguments(keys, partitions))]
    order = np.argsort(partitions, kind="stable")
    partitions = partitions[order]
    block = names.arguments(keys[order], partitions)
    starts = np.flatnonzero(np.diff(partitions, prepend=-1)).tolist()
    return [
        Group(int(partitions[start]), order[start:stop], block[start * names.size : stop * names.size])
        for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True)
    ]


def scattered(count: int, groups: Sequence[Group], replies: Iterator[list[bytes | None]]) -> list[bytes | None]:
    """The values of `count` keys in their order, from the next replies, one for each of their groups."""
    if len(groups) == 1:
        return next(replies)
    values: list[bytes | None] = [None] * count
    for group in groups:
        reply = next(replies)
        for member, value in zip(group.members.tolist(), reply, strict=True):
            values[member] = value
    return values
