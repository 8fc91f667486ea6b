"""What every window store does. A new implementation is one more entry in `support.stores.STORE_KINDS`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import numpy as np
import pytest

from fraud_scoring.schema import INT64_MAX, INT64_MIN, Schema
from fraud_scoring.stores import Recorded, WindowStore
from fraud_scoring.stores.records import RETENTION_DAYS
from fraud_scoring.windows import NEVER, TIME
from fraud_scoring.wire import Accepted
from support.rows import (
    DAY_US,
    DEFAULT_SCHEMA,
    MONDAY_US,
    SLOT_US,
    Int64,
    label,
    matrix,
    row,
    schema_with,
    seeded_history,
)
from support.stores import STORE_KINDS, StoreKind, StorePlace, answers_for, same_bits

CUSTOMER, TERMINAL = 0, 1


def opened_place(request: pytest.FixtureRequest, folder: Path) -> Iterator[StorePlace]:
    kind: StoreKind = request.param
    where = f"{request.getfixturevalue(kind.server)}&namespace={token_hex(8)}" if kind.server else folder
    opened = StorePlace(kind, where)
    yield opened
    opened.close()


@pytest.fixture(params=STORE_KINDS, ids=lambda kind: kind.name)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePlace]:
    yield from opened_place(request, tmp_path / "store")


@pytest.fixture(params=[kind for kind in STORE_KINDS if kind.durable], ids=lambda kind: kind.name)
def durable_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePlace]:
    yield from opened_place(request, tmp_path / "store")


@pytest.fixture(params=[kind for kind in STORE_KINDS if kind.sweeps], ids=lambda kind: kind.name)
def sweeping_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePlace]:
    yield from opened_place(request, tmp_path / "store")


@pytest.fixture
def store(place: StorePlace) -> WindowStore:
    return place.open()


def events_of(store: WindowStore, key: int, entity: int = CUSTOMER) -> list[list[int]]:
    """(time, id, amount, known as fraud at) of each event of one entity."""
    rows = matrix(row(0, customer=key, terminal=key))
    history = store.read(rows)[entity]
    assert history.segment.tolist() == [0]
    assert history.offsets.tolist() == [0, len(history.events)]
    return history.events.tolist()


def ids_of(store: WindowStore, key: int, entity: int = CUSTOMER) -> list[int]:
    return [event[1] for event in events_of(store, key, entity)]


def one(store: WindowStore, identifier: int) -> Recorded | None:
    return store.recall(np.array([identifier]))[0]


def record_apart(store: WindowStore, *rows: list[int]) -> None:
    """Each row in a call of its own."""
    for each in rows:
        store.record(matrix(each))


def test_an_empty_store_knows_nothing(store: WindowStore) -> None:
    assert store.recall(np.array([1, 2])) == [None, None]
    assert store.label(label(1)).tolist() == [Accepted.UNKNOWN_TRANSACTION]
    for history in store.read(matrix(row(1), row(2, customer=5, terminal=6))):
        assert history.events.shape == (0, 4)


def test_calls_without_rows_do_nothing(store: WindowStore) -> None:
    nothing = matrix(row(1))[:0]
    assert store.label(nothing[:, :3]).tolist() == []
    assert store.recall(nothing[:, 0]) == []
    assert store.record(nothing) == []
    assert [len(history.events) for history in store.read(nothing)] == [0, 0]


def test_a_recorded_row_is_an_event_of_each_of_its_entities(store: WindowStore) -> None:
    assert store.record(matrix(row(1, MONDAY_US, customer=10, terminal=20, amount=300))) == [None]
    assert events_of(store, 10, CUSTOMER) == [[MONDAY_US, 1, 300, NEVER]]
    assert events_of(store, 20, TERMINAL) == [[MONDAY_US, 1, 300, NEVER]]
    assert events_of(store, 20, CUSTOMER) == events_of(store, 10, TERMINAL) == []


def test_a_batch_reads_each_of_its_entities_once(store: WindowStore) -> None:
    store.record(matrix(row(1, customer=5), row(2, customer=-3), row(3, customer=5)))
    asked = matrix(row(9, customer=5), row(9, customer=7), row(9, customer=-3), row(9, customer=5))
    history = store.read(asked)[CUSTOMER]
    mine = [
        history.events[history.offsets[entity] : history.offsets[entity + 1], 1].tolist()
        for entity in history.segment.tolist()
    ]
    assert mine == [[1, 3], [], [2], [1, 3]]
    assert history.segment[0] == history.segment[3]


def test_a_history_can_be_handed_to_the_kernel(store: WindowStore) -> None:
    store.record(matrix(row(1), row(2, customer=2)))
    for rows in (matrix(row(9)), matrix(row(9), row(8, customer=2, terminal=4))):
        for history in store.read(rows):
            for array in history:
                assert array.dtype == np.int64
                assert array.flags.c_contiguous
            assert history.events.flags.writeable


@pytest.mark.parametrize("key", [INT64_MIN, -1, 0, INT64_MAX])
def test_keys_and_ids_take_all_64_bits(store: WindowStore, key: int) -> None:
    sent = matrix(row(key, customer=key, terminal=key))
    store.record(sent, answers_for(sent))
    assert ids_of(store, key) == [key]
    assert store.label(label(key)).tolist() == [Accepted.APPLIED]
    found = one(store, key)
    assert found is not None
    assert found.row.tolist() == sent[0].tolist()


def test_recall_gives_back_row_and_answer_to_the_bit(store: WindowStore) -> None:
    rows = seeded_history(np.random.default_rng(1), 50).rows
    answers = answers_for(rows, features=17)
    answers.features[0, :4] = [np.nan, -0.0, np.inf, np.float32(1e-42)]
    store.record(rows, answers)
    shuffled = np.random.default_rng(2).permutation(50)
    for i, found in zip(shuffled, store.recall(rows[shuffled, 0]), strict=True):
        assert found is not None
        assert found.answer is not None
        assert found.row.tolist() == rows[i].tolist()
        assert found.answer.score.tobytes() == answers.score[i].tobytes()
        assert found.answer.verdict.tobytes() == answers.verdict[i].tobytes()
        assert found.answer.features.tobytes() == answers.features[i].tobytes()
        assert (found.answer.verdict.shape, found.answer.features.shape) == ((1, 6), (1, 17))


def test_a_transaction_counts_once_and_its_first_answer_stays(store: WindowStore) -> None:
    sent = matrix(row(1))
    store.record(sent, answers_for(sent, release=7))
    before = store.record(matrix(row(2), row(1)), answers_for(matrix(row(2), row(1)), release=8))
    assert before[0] is None
    assert before[1] is not None
    assert before[1].row.tolist() == row(1)
    assert before[1].answer is not None
    assert before[1].answer.verdict[0, 4] == 7
    stays = one(store, 1)
    assert stays is not None
    assert stays.answer is not None
    assert stays.answer.verdict[0, 4] == 7
    assert ids_of(store, 1) == [1, 2]


def test_rows_of_which_none_is_known_are_recorded_all(store: WindowStore) -> None:
    rows = matrix(row(1), row(2, customer=2), row(3, MONDAY_US + 1))
    assert store.record_new(rows, answers_for(rows))
    for i, known in enumerate(store.recall(rows[:, 0])):
        assert known is not None
        assert known.answer is not None
        assert known.row.tolist() == rows[i].tolist()
        assert same_bits(known.answer, answers_for(rows[i : i + 1]))
    assert ids_of(store, 1) == [1, 3]
    assert ids_of(store, 2) == [2]


@pytest.mark.parametrize("answered", [True, False])
def test_rows_of_which_one_is_known_are_recorded_none(store: WindowStore, answered: bool) -> None:
    known = matrix(row(1), row(2))
    store.record(known, answers_for(known) if answered else None)
    rows = matrix(row(3, MONDAY_US + 1), row(2), row(4))
    for _ in range(2):
        assert not store.record_new(rows, answers_for(rows, release=8))
        assert one(store, 3) is None
        assert one(store, 4) is None
        stood = one(store, 2)
        assert stood is not None
        assert (stood.answer is None) == (not answered)
        assert ids_of(store, 1) == [1, 2]
    assert store.record_new(rows[[0, 2]], answers_for(rows[[0, 2]]))
    assert sorted(ids_of(store, 1)) == [1, 2, 3, 4]


def test_a_transaction_that_stands_twice_in_one_call_counts_once(store: WindowStore) -> None:
    before = store.record(matrix(row(1, amount=10), row(1, amount=20)))
    assert before[0] is None
    assert before[1] is not None
    assert before[1].row.tolist() == row(1, amount=10)
    assert events_of(store, 1) == [[MONDAY_US, 1, 10, NEVER]]


def test_an_id_that_comes_back_with_other_values_changes_nothing(store: WindowStore) -> None:
    store.record(matrix(row(1, customer=1)))
    other = matrix(row(1, MONDAY_US + 5, customer=2, amount=7))
    before = store.record(other, answers_for(other))
    assert before[0] is not None
    assert before[0].row.tolist() == row(1, customer=1)
    stays = one(store, 1)
    assert stays is not None
    assert stays.row.tolist() == row(1, customer=1)
    assert stays.answer is None  # the answer belongs to another transaction
    assert ids_of(store, 2) == []


def test_history_without_an_answer_can_be_answered_later_and_once(store: WindowStore) -> None:
    sent = matrix(row(1))
    store.record(sent)
    assert store.label(label(1)).tolist() == [Accepted.APPLIED]
    silent = one(store, 1)
    assert silent is not None
    assert silent.answer is None
    for release in (7, 8):
        store.record(sent, answers_for(sent, release=release))
    found = one(store, 1)
    assert found is not None
    assert found.answer is not None
    assert found.answer.verdict[0, 4] == 7
    assert events_of(store, 1) == [[MONDAY_US, 1, 1_000, MONDAY_US]]
    assert store.label(label(1)).tolist() == [Accepted.ALREADY_KNOWN]


def test_a_late_event_is_inserted_at_its_own_time(store: WindowStore) -> None:
    times = {3: 30, 1: 10, 4: 40, 2: 20, 5: 40, 0: 40}
    record_apart(store, *(row(identifier, MONDAY_US + time) for identifier, time in times.items()))
    assert ids_of(store, 1) == [1, 2, 3, 0, 4, 5]


def test_the_order_of_arrival_leaves_no_trace_in_the_windows(place: StorePlace, tmp_path: Path) -> None:
    history = seeded_history(np.random.default_rng(3), 80, days=2)
    store = place.open()
    store.record(history.rows[np.random.default_rng(4).permutation(80)])
    for entity in (CUSTOMER, TERMINAL):
        for key in np.unique(history.rows[:, 2 + entity]).tolist():
            mine = history.rows[history.rows[:, 2 + entity] == key]
            assert ids_of(store, key, entity) == mine[:, 0].tolist()


@pytest.mark.parametrize(("entity", "kept_days"), [(CUSTOMER, 32), (TERMINAL, 39)])
def test_events_are_trimmed_behind_the_longest_window_and_the_lateness(
    store: WindowStore, entity: int, kept_days: int
) -> None:
    now = MONDAY_US + kept_days * DAY_US
    record_apart(store, row(1, MONDAY_US), row(2, MONDAY_US + 1), row(3, now - 1))
    assert ids_of(store, 1, entity) == [1, 2, 3]
    record_apart(store, row(4, now))
    assert ids_of(store, 1, entity) == [2, 3, 4]


def test_an_entitys_events_are_trimmed_by_its_own_newest_event_only(store: WindowStore) -> None:
    record_apart(store, row(1, MONDAY_US, customer=1, terminal=1))
    record_apart(store, row(2, MONDAY_US + 100 * DAY_US, customer=2, terminal=1))
    assert ids_of(store, 1, CUSTOMER) == [1]
    assert ids_of(store, 1, TERMINAL) == [2]


def test_an_event_that_is_later_than_what_is_kept_is_recorded_but_is_in_no_window(store: WindowStore) -> None:
    newest = MONDAY_US + 50 * DAY_US
    record_apart(store, row(1, newest), row(2, newest - 32 * DAY_US), row(3, newest - 32 * DAY_US + 1))
    assert ids_of(store, 1, CUSTOMER) == [3, 1]
    assert ids_of(store, 1, TERMINAL) == [2, 3, 1]
    assert one(store, 2) is not None
    assert store.label(label(2)).tolist() == [Accepted.APPLIED]


def test_an_event_within_the_lateness_finds_its_longest_window_whole(store: WindowStore) -> None:
    late = MONDAY_US + 60 * DAY_US
    newest = late + DEFAULT_SCHEMA.late_by_us
    record_apart(store, *(row(100 + day, late - day * DAY_US + 1) for day in range(31)), row(1, newest))
    found = [time for time, *_ in events_of(store, 1) if late - 30 * DAY_US < time <= late]
    assert len(found) == 30


def test_a_smaller_schema_keeps_less(place: StorePlace) -> None:
    short = schema_with(late_by_days=1, features=[{"name": "n", "of": "count", "entity": "customer_key", "days": [1]}])
    store = place.open(short)
    record_apart(store, row(1, MONDAY_US), row(2, MONDAY_US + DAY_US), row(3, MONDAY_US + 2 * DAY_US))
    assert ids_of(store, 1, CUSTOMER) == [2, 3]
    assert ids_of(store, 1, TERMINAL) == [3]


@pytest.mark.parametrize("seed", range(5))
def test_windows_hold_each_id_once_at_its_first_time(store: WindowStore, seed: int) -> None:
    """Against a dictionary: few ids, sent again and again with other times and customers, in calls of any size."""
    rng = np.random.default_rng(seed)
    first: dict[int, list[int]] = {}
    for _ in range(30):
        sent = [
            row(
                int(rng.integers(0, 60)),
                MONDAY_US + int(rng.integers(0, 8)) * SLOT_US,
                customer=int(rng.integers(1, 4)),
            )
            for _ in range(rng.integers(1, 6))
        ]
        for one_ in sent:
            first.setdefault(one_[0], one_)
        store.record(matrix(*sent))
    for customer in (1, 2, 3):
        mine = sorted((one_[1], one_[0]) for one_ in first.values() if one_[2] == customer)
        assert [(event[TIME], event[1]) for event in events_of(store, customer)] == mine


def test_a_label_marks_the_event_of_every_entity_and_no_other(store: WindowStore) -> None:
    store.record(matrix(row(1, MONDAY_US), row(2, MONDAY_US + 1), row(3, MONDAY_US + 2)))
    known = MONDAY_US + DAY_US
    assert store.label(label(2, known_at_us=known)).tolist() == [Accepted.APPLIED]
    for entity in (CUSTOMER, TERMINAL):
        assert [event[3] for event in events_of(store, 1, entity)] == [NEVER, known, NEVER]


def test_each_label_of_a_call_is_answered_for_itself(store: WindowStore) -> None:
    store.record(matrix(row(1), row(2)))
    labels = np.concatenate([label(2), label(9), label(1, is_fraud=False), label(2), label(2, is_fraud=False)])
    assert store.label(labels).tolist() == [
        Accepted.APPLIED,
        Accepted.UNKNOWN_TRANSACTION,
        Accepted.APPLIED,
        Accepted.ALREADY_KNOWN,
        Accepted.APPLIED,
    ]


def test_a_label_that_is_told_again_keeps_its_first_moment(store: WindowStore) -> None:
    store.record(matrix(row(1)))
    store.label(label(1, known_at_us=MONDAY_US + 5))
    assert store.label(label(1, known_at_us=MONDAY_US + 9)).tolist() == [Accepted.ALREADY_KNOWN]
    assert events_of(store, 1)[0][3] == MONDAY_US + 5


def test_a_genuine_label_leaves_the_windows_alone(store: WindowStore) -> None:
    store.record(matrix(row(1)))
    assert store.label(label(1, is_fraud=False)).tolist() == [Accepted.APPLIED]
    assert store.label(label(1, is_fraud=False)).tolist() == [Accepted.ALREADY_KNOWN]
    assert events_of(store, 1)[0][3] == NEVER


def test_a_fraud_that_turns_out_genuine_is_taken_back_and_may_come_again(store: WindowStore) -> None:
    store.record(matrix(row(1)))
    moments = []
    for is_fraud, known in ((True, 1), (False, 2), (True, 3)):
        assert store.label(label(1, is_fraud=is_fraud, known_at_us=MONDAY_US + known)).tolist() == [Accepted.APPLIED]
        moments.append(events_of(store, 1)[0][3])
    assert moments == [MONDAY_US + 1, NEVER, MONDAY_US + 3]


def test_a_label_changes_neither_row_nor_answer(store: WindowStore) -> None:
    sent = matrix(row(1), row(2))
    store.record(sent, answers_for(sent))
    before = store.recall(sent[:, 0])
    store.label(label(1))
    for one_, other in zip(before, store.recall(sent[:, 0]), strict=True):
        assert one_ is not None
        assert other is not None
        assert one_.row.tolist() == other.row.tolist()
        assert one_.answer is not None
        assert other.answer is not None
        assert same_bits(one_.answer, other.answer)


def test_a_label_for_an_event_that_is_trimmed_is_applied_to_its_transaction(store: WindowStore) -> None:
    record_apart(store, row(1, MONDAY_US), row(2, MONDAY_US + 100 * DAY_US))
    assert store.label(label(1)).tolist() == [Accepted.APPLIED]
    assert store.label(label(1)).tolist() == [Accepted.ALREADY_KNOWN]
    assert [event[3] for event in events_of(store, 1)] == [NEVER]


def test_a_repeat_leaves_the_label_as_it_is(store: WindowStore) -> None:
    store.record(matrix(row(1)))
    store.label(label(1))
    store.record(matrix(row(1)))
    assert events_of(store, 1)[0][3] == MONDAY_US
    assert store.label(label(1)).tolist() == [Accepted.ALREADY_KNOWN]


UNPACKABLE = np.array([row(1), row(2, customer=5), [3, MONDAY_US, 1, 2**63, 1_000]], dtype=object)
"""The last row's terminal does not fit into 64 bits: packing it fails after the rows before it were put."""
CANNOT_BE_PACKED = (struct.error, OverflowError)


def test_a_call_that_fails_in_its_middle_records_nothing(store: WindowStore) -> None:
    store.record(matrix(row(7)))
    with pytest.raises(CANNOT_BE_PACKED):
        store.record(UNPACKABLE)
    assert store.recall(np.array([1, 2, 3])) == [None, None, None]
    assert ids_of(store, 1) == [7]
    assert ids_of(store, 5) == []
    assert store.record(matrix(row(1), row(2, customer=5))) == [None, None]
    assert ids_of(store, 1) == [1, 7]


def test_a_call_with_fewer_answers_than_rows_records_nothing(store: WindowStore) -> None:
    with pytest.raises(ValueError, match=r"is shorter|must match exactly"):
        store.record(matrix(row(3), row(4)), answers_for(matrix(row(3))))
    assert store.recall(np.array([3, 4])) == [None, None]
    assert ids_of(store, 1) == []


def test_labels_of_a_call_that_fails_are_not_applied(store: WindowStore) -> None:
    store.record(matrix(row(1), row(2)))
    with pytest.raises(CANNOT_BE_PACKED):
        store.label(np.array([[1, 1, MONDAY_US], [2, 1, 2**63]], dtype=object))
    assert [event[3] for event in events_of(store, 1)] == [NEVER, NEVER]
    assert store.label(label(1)).tolist() == [Accepted.APPLIED]


def remembered(store: WindowStore, ids: Int64) -> list[int]:
    return [i for i, found in zip(ids.tolist(), store.recall(ids), strict=True) if found is not None]


def test_a_record_is_kept_for_its_retention_and_then_forgotten(place: StorePlace) -> None:
    store = place.open()
    store.record(matrix(row(1)))
    place.clock.now_us += RETENTION_DAYS * DAY_US
    store.record(matrix(row(2)))
    assert remembered(store, np.array([1, 2])) == [1, 2]
    place.clock.now_us += DAY_US
    store.record(matrix(row(3)))
    assert remembered(store, np.array([1, 2, 3])) == [2, 3]
    assert store.label(label(1)).tolist() == [Accepted.UNKNOWN_TRANSACTION]


def test_what_counts_for_retention_is_when_a_record_came_and_not_its_event_time(place: StorePlace) -> None:
    store = place.open()
    store.record(matrix(row(1, MONDAY_US - 300 * DAY_US)))
    store.record(matrix(row(2)))
    assert remembered(store, np.array([1, 2])) == [1, 2]


def test_a_forgotten_transaction_stays_in_its_windows_once(place: StorePlace) -> None:
    store = place.open()
    store.record(matrix(row(1)))
    place.clock.now_us += (RETENTION_DAYS + 1) * DAY_US
    store.record(matrix(row(2, MONDAY_US + 1)))
    assert store.record(matrix(row(1))) == [None]
    assert ids_of(store, 1) == [1, 2]
    assert remembered(store, np.array([1, 2])) == [1, 2]


def test_forgetting_is_spread_over_calls(sweeping_place: StorePlace) -> None:
    """So that no caller waits for a day's records to go; every call forgets more than it adds."""
    store = sweeping_place.open()
    ids = np.arange(1, 301)
    store.record(matrix(*(row(int(i)) for i in ids)))
    sweeping_place.clock.now_us += (RETENTION_DAYS + 1) * DAY_US
    left = [300]
    while left[-1]:
        store.record(matrix(*(row(1_000 + 10 * len(left) + i) for i in range(10))))
        left.append(len(remembered(store, ids)))
        assert 10 < left[-2] - left[-1] <= 100 or left[-1] == 0
    assert len(left) > 3


def test_what_is_within_retention_is_never_forgotten(place: StorePlace) -> None:
    store = place.open()
    for day in range(RETENTION_DAYS):
        store.record(matrix(row(day)))
        place.clock.now_us += DAY_US
    assert remembered(store, np.arange(RETENTION_DAYS)) == list(range(RETENTION_DAYS))


def test_a_large_batch_is_recorded_as_it_is_in_small_ones(place: StorePlace) -> None:
    history = seeded_history(np.random.default_rng(8), 400, days=120)
    store = place.open()
    store.record(history.rows, answers_for(history.rows))
    for start in range(0, 400, 7):
        part = history.rows[start : start + 7].copy()
        part[:, [0, 2, 3]] += 1_000
        store.record(part, answers_for(part))
    for entity in (CUSTOMER, TERMINAL):
        for key in np.unique(history.rows[:, 2 + entity]).tolist():
            expected = [[time, 1_000 + i, *rest] for time, i, *rest in events_of(store, key, entity)]
            assert events_of(store, key + 1_000, entity) == expected


def test_what_was_recorded_is_there_after_closing_and_opening(durable_place: StorePlace) -> None:
    history = seeded_history(np.random.default_rng(9), 200)
    store = durable_place.open()
    store.record(history.rows, answers_for(history.rows))
    store.label(np.concatenate([label(int(i)) for i in history.rows[:50, 0]]))
    windows = [history_.events.tobytes() for history_ in store.read(history.rows)]
    before = store.recall(history.rows[:, 0])

    store = durable_place.open()
    assert [history_.events.tobytes() for history_ in store.read(history.rows)] == windows
    for one_, other in zip(before, store.recall(history.rows[:, 0]), strict=True):
        assert one_ is not None
        assert other is not None
        assert one_.row.tolist() == other.row.tolist()
        assert one_.answer is not None
        assert other.answer is not None
        assert same_bits(one_.answer, other.answer)
    assert set(store.label(label(int(history.rows[0, 0])))) == {Accepted.ALREADY_KNOWN}


def test_a_store_can_be_closed_twice(place: StorePlace) -> None:
    store = place.open()
    store.close()
    store.close()


def test_a_schema_with_a_third_entity_has_a_third_history(place: StorePlace) -> None:
    document = {
        "name": "three",
        "columns": [
            {"name": "id", "role": "id"},
            {"name": "at", "role": "time"},
            {"name": "card", "role": "entity"},
            {"name": "shop", "role": "entity"},
            {"name": "device", "role": "entity"},
            {"name": "kind", "role": "category"},
            {"name": "cents", "role": "amount"},
        ],
        "features": [{"name": "n", "of": "count", "entity": "device", "days": [1]}],
    }
    store = place.open(Schema.parse(document))
    sent = np.array([[1, MONDAY_US, 10, 20, 30, 4, 500], [2, MONDAY_US + 1, 10, 21, 30, 4, 600]])
    store.record(sent)
    assert [history.events[:, 1].tolist() for history in store.read(sent[:1])] == [[1, 2], [1], [1, 2]]
