"""Frames: what goes in comes out to the bit, lies on the disk as documented, and no damage makes the reader stumble."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from fraud_scoring.decision_log import Context, Decisions, Frame, Gap, Labels, LogDamaged, Shadowed
from fraud_scoring.decision_log.contents import Content, Kind, Shape
from fraud_scoring.decision_log.frames import HEADER, MAGIC, MAX_PAYLOAD, NO_HASH, decode, encode
from support.decision_logs import Traffic
from support.rows import MONDAY_US, SEEDED

PREVIOUS = bytes(range(32))
shapes = st.tuples(st.integers(0, 5), st.integers(1, 7), st.integers(0, 20))


@st.composite
def decisions(draw: st.DrawFn, shape: tuple[int, int, int] | None = None) -> Decisions:
    n, columns, features = shape or draw(shapes)
    any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
    return Decisions(
        transaction=draw(stn.arrays(np.int64, (n, columns))),
        features=draw(stn.arrays(np.float32, (n, features), elements=any_float)),
        score=draw(stn.arrays(np.float32, (n,), elements=any_float)),
        verdict=draw(stn.arrays(np.int32, (n, 6))),
        repeat=draw(stn.arrays(np.bool_, (n,))),
        deadline_left_us=draw(stn.arrays(np.int64, (n,))),
        stage_us=draw(stn.arrays(np.int64, (4,), elements=st.integers(0, 2**32 - 1))),
        refused=draw(st.integers(0, 2**32 - 1)),
        failed=draw(st.integers(0, 2**32 - 1)),
    )


@st.composite
def shadowed(draw: st.DrawFn) -> Shadowed:
    n, columns, _ = draw(shapes)
    any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
    return Shadowed(
        release=draw(st.integers(0, 99_999)),
        transaction=draw(stn.arrays(np.int64, (n, columns))),
        champion=draw(stn.arrays(np.int32, (n, 3))),
        champion_score=draw(stn.arrays(np.float32, (n,), elements=any_float)),
        score=draw(stn.arrays(np.float32, (n,), elements=any_float)),
        decision=draw(stn.arrays(np.int32, (n,))),
        dropped=draw(stn.arrays(np.int64, (3,), elements=st.integers(0, 2**32 - 1))),
    )


contents = st.one_of(
    decisions(),
    shadowed(),
    st.builds(Context, st.integers(0, 9999), st.text()),
    st.builds(Labels, stn.arrays(np.int64, st.tuples(st.integers(0, 9), st.just(3)))),
    st.builds(Gap, st.integers(0, 2**62), st.integers(0, 2**40), st.text()),
)


def one_of_each() -> list[Content]:
    made = Traffic(np.random.default_rng(1)).decisions(3, MONDAY_US)
    champion = np.ascontiguousarray(made.verdict[:, [4, 5, 0]])
    shadow = Shadowed(8, made.transaction, champion, made.score, made.score, champion[:, 2], np.array([0, 4, 1]))
    labels, gap = Labels(np.arange(6).reshape(2, 3)), Gap(MONDAY_US, 12, "no space")
    return [Context(7, '{"columns": []}'), made, labels, gap, shadow]


def same(one: Content, other: Content) -> bool:
    assert type(one) is type(other)
    for name, value in vars(one).items():
        found = getattr(other, name)
        if isinstance(value, np.ndarray):
            if (value.shape, value.dtype, value.tobytes()) != (found.shape, found.dtype, found.tobytes()):
                return False
        elif value != found:
            return False
    return True


def read_back(frame: bytes, at: int = 0) -> Frame:
    found = decode(frame, at)
    assert found is not None
    return found


@given(contents, st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=32, max_size=32))
@SEEDED
def test_what_goes_in_comes_out_to_the_bit(content: Content, sequence: int, at_us: int, previous: bytes) -> None:
    frame, digest = encode(content, sequence, at_us, previous)
    found = read_back(b"before" + frame + b"behind", 6)
    assert (found.sequence, found.written_at_us, found.previous) == (sequence, at_us, previous)
    assert (found.size, found.digest, found.kind) == (len(frame), digest, content.kind)
    assert same(content, found.content())


@pytest.mark.parametrize("content", one_of_each(), ids=lambda content: type(content).__name__)
def test_a_frame_lies_on_the_disk_as_documented(content: Content) -> None:
    frame, digest = encode(content, 0x0102030405060708, 77, PREVIOUS)
    assert HEADER.size == 64
    assert frame[:4] == MAGIC == b"FRD1"
    assert frame[4] == Kind(content.kind)
    assert frame[5:8] == bytes(3)
    assert struct.unpack_from("<I", frame, 8)[0] == len(frame) - 64
    assert struct.unpack_from("<I", frame, 12)[0] == zlib.crc32(frame[:12] + bytes(4) + frame[16:])
    assert struct.unpack_from("<Qq", frame, 16) == (0x0102030405060708, 77)
    assert frame[32:64] == PREVIOUS
    assert digest == hashlib.sha256(frame).digest()


@pytest.mark.parametrize(("rows", "features"), [(1, 15), (64, 15), (7, 0)])
def test_a_row_costs_what_its_numbers_cost_and_a_frame_96_bytes_more(rows: int, features: int) -> None:
    made = Traffic(np.random.default_rng(1)).decisions(rows, MONDAY_US)
    made = Decisions(**{**vars(made), "features": np.zeros((rows, features), np.float32)})
    frame, _ = encode(made, 0, 0, NO_HASH)
    assert len(frame) == 64 + 28 + rows * (8 * 5 + 8 + 4 * features + 4 + 4 * 6 + 1) + 4


@given(decisions())
@SEEDED
def test_a_frame_of_a_log_that_did_not_count_failures_can_still_be_read(content: Decisions) -> None:
    assert same(Decisions.parse(content.payload()[:-4]), replace(content, failed=0))


@given(shapes.flatmap(lambda shape: st.lists(decisions(shape), min_size=1, max_size=4)))
@SEEDED
def test_payloads_of_one_shape_parsed_at_once_are_what_each_of_them_is(contents: list[Decisions]) -> None:
    payloads = [content.payload() for content in contents]
    joined = Decisions.parse_many(Shape.of(payloads[0]), payloads)
    assert same(joined.decisions, Decisions.concatenate(contents))
    assert joined.rows.tolist() == [len(content) for content in contents]
    assert joined.stage_us.tolist() == [content.stage_us.tolist() for content in contents]
    assert joined.refused.tolist() == [content.refused for content in contents]
    assert joined.failed.tolist() == [content.failed for content in contents]


def test_a_frame_may_hold_no_answer_and_tell_of_requests_that_got_none() -> None:
    found = Decisions.parse(Decisions.none(5, refused=3, failed=2).payload())
    assert (len(found), found.transaction.shape, found.refused, found.failed) == (0, (0, 5), 3, 2)


def test_numbers_in_any_memory_order_and_width_are_written_as_documented() -> None:
    made = Traffic(np.random.default_rng(1)).decisions(4, MONDAY_US)
    turned = Decisions(
        **{
            **vars(made),
            "transaction": np.asfortranarray(made.transaction),
            "features": np.asfortranarray(made.features),
            "verdict": made.verdict.astype(np.int64),
            "score": made.score[::-1][::-1],
        }
    )
    assert turned.payload() == made.payload()


def test_a_stage_that_took_hours_or_less_than_nothing_is_clipped() -> None:
    made = Traffic(np.random.default_rng(1)).decisions(1, MONDAY_US, stage_us=np.array([-5, 2**40, 7, 0]))
    assert Decisions.parse(made.payload()).stage_us.tolist() == [0, 2**32 - 1, 7, 0]


@pytest.mark.parametrize("content", one_of_each(), ids=lambda content: type(content).__name__)
def test_every_flipped_bit_is_seen(content: Content) -> None:
    frame, _ = encode(content, 5, MONDAY_US, PREVIOUS)
    for bit in range(0, 8 * len(frame), 1 if len(frame) < 300 else 5):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert decode(bytes(damaged), 0) is None  # a length that is too long: the rest has not come yet
            assert 64 <= bit < 96
        except LogDamaged:
            pass


@pytest.mark.parametrize("content", one_of_each(), ids=lambda content: type(content).__name__)
def test_a_frame_that_is_cut_has_not_come_yet(content: Content) -> None:
    frame, _ = encode(content, 5, MONDAY_US, PREVIOUS)
    assert all(decode(frame[:length], 0) is None for length in range(len(frame)))


@given(st.data())
@SEEDED
def test_no_damage_makes_the_reader_stumble(data: st.DataObject) -> None:
    frame = bytearray(b"".join(encode(content, 5, MONDAY_US, PREVIOUS)[0] for content in one_of_each()))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    at = data.draw(st.integers(0, len(frame)))
    try:
        found = decode(bytes(frame), at)
    except LogDamaged:
        return
    if found is not None:
        found.content()  # its checksum is right: it is one of them


@given(st.binary(max_size=200))
@SEEDED
def test_bytes_of_any_origin_are_a_frame_or_damaged_or_not_all_there(data: bytes) -> None:
    with suppress(LogDamaged):
        assert decode(data, 0) is None


@given(
    st.sampled_from([*Kind, 0, 6, 255]),
    st.one_of(st.binary(max_size=300), st.text(alphabet='[]{}":,0a ').map(str.encode)),
)
@SEEDED
def test_a_payload_that_its_kind_does_not_allow_is_damaged(kind: int, payload: bytes) -> None:
    frame = Frame(3, MONDAY_US, NO_HASH, NO_HASH, 64 + len(payload), kind, payload)
    with suppress(LogDamaged):
        frame.content()


def test_a_length_that_no_frame_has_is_not_waited_for() -> None:
    header = HEADER.pack(MAGIC, Kind.GAP, MAX_PAYLOAD + 1, 0, 0, 0, NO_HASH)
    with pytest.raises(LogDamaged, match="no frame begins here"):
        decode(header, 0)


def test_a_payload_of_another_number_of_rows_is_damaged() -> None:
    payload = bytearray(Traffic(np.random.default_rng(1)).decisions(3, MONDAY_US).payload())
    payload[0] = 4
    with pytest.raises(LogDamaged, match="a frame of 4 rows is"):
        Frame(3, 0, NO_HASH, NO_HASH, 0, Kind.DECISIONS, bytes(payload)).content()
    with pytest.raises(LogDamaged, match="a frame of labels is 23 bytes long"):
        Frame(3, 0, NO_HASH, NO_HASH, 0, Kind.LABELS, bytes(23)).content()
    with pytest.raises(LogDamaged, match="a shadow's frame of 3 rows is"):
        Frame(3, 0, NO_HASH, NO_HASH, 0, Kind.SHADOW, one_of_each()[-1].payload() + b"x").content()


def test_a_context_of_the_wrong_kind_of_json_is_damaged() -> None:
    for document in ([], {}, {"release": 1}, "x"):
        with pytest.raises(LogDamaged, match="the payload of frame 3 cannot be read"):
            Frame(3, 0, NO_HASH, NO_HASH, 0, Kind.CONTEXT, json.dumps(document).encode()).content()
