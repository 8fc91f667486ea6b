-- One entity's window, as Python's `events` module packs it: 32 bytes an event (time, transaction id, amount, known as
-- fraud at; little-endian int64), sorted by (time, id), in one string.
--
-- A string and not a sorted set: 32 bytes an event instead of about 100, one APPEND for an event that is the newest, and
-- a read hands over the bytes that the feature kernel works on. Numbers in Lua are doubles: ids are therefore compared
-- as halves of 32 bits, exactly; times in microseconds are exact in a double until the year 2255.
--
-- A busy entity's string holds its newest events only, behind a stamp (ledger.lua): it is no multiple of 32 bytes long.

local call, sub, unpack, floor = redis.call, string.sub, struct.unpack, math.floor
local EVENT = 32
local FORTNIGHT = 14 * 86400 * 1000000
local CHECK_EVERY = 16

local function time_of(event)
  local low, high = unpack('<I4i4', event)
  return high * 4294967296 + low
end

local function before(one, other)
  local time, other_time = time_of(one), time_of(other)
  if time ~= other_time then
    return time < other_time
  end
  local low, high = unpack('<I4i4', one, 9)
  local other_low, other_high = unpack('<I4i4', other, 9)
  if high ~= other_high then
    return high < other_high
  end
  return low < other_low
end

-- Order of the event at `index`, counted behind the first `base` bytes.
local function order_at(key, base, index)
  return call('GETRANGE', key, base + index * EVENT, base + index * EVENT + 15)
end

-- Where `event` is or belongs among the events of a string of `size` bytes, and whether it is there.
local function find(key, size, event)
  local base = size % EVENT
  local count = (size - base) / EVENT
  local low, high = 0, count
  while low < high do
    local middle = floor((low + high) / 2)
    if before(order_at(key, base, middle), event) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low, low < count and order_at(key, base, low) == sub(event, 1, 16)
end

-- Drop what is not later than `oldest`, once half of the events is: so each event is written to the append-only file about
-- twice in its life. Of a busy entity, once an eighth is: its ledger goes then, since all that it holds is older.
local function trim(key, base, count, oldest)
  local first = floor(count / (base == STAMP and 8 or 2))
  if time_of(order_at(key, base, first)) > oldest then
    return
  end
  local packed = call('GETRANGE', key, base + first * EVENT, -1)
  local low, high = 1, count - first -- the newest is later
  while low < high do
    local middle = floor((low + high) / 2)
    if time_of(sub(packed, middle * EVENT + 1, middle * EVENT + 8)) > oldest then
      high = middle
    else
      low = middle + 1
    end
  end
  call('SET', key, sub(packed, low * EVENT + 1), 'KEEPTTL')
  if base == STAMP then
    call('DEL', ledger_of(key))
  end
end

-- What a string has grown to `size` bytes by `added` events, of which the newest is of `time`, calls for: old events go,
-- now and then. Whether a client should seal it.
local function grown(key, size, added, time, keep)
  local base = size % EVENT
  local count = (size - base) / EVENT
  local is_middling = count >= 64 and count < SEAL_AT / 2 -- a few more do no harm there
  if count % (is_middling and 2 * CHECK_EVERY or CHECK_EVERY) < added then
    trim(key, base, count, time - keep)
  end
  return count > SEAL_AT
end

-- Let a string of `size` bytes, and the ledger that its stamp tells of, live for `expire` seconds from now on.
local function renew(key, size, expire)
  call('EXPIRE', key, expire)
  if size % EVENT == STAMP then
    call('EXPIRE', ledger_of(key), expire)
  end
end

-- Put `event`, which is of `time` and may not be the newest, at its place. Whether a client should seal the entity.
local function insert(key, event, time, newest_time, keep)
  if time <= newest_time - keep then
    return false
  end
  local size = call('STRLEN', key)
  local at, found = find(key, size, event)
  if found then
    return false
  end
  local base = size % EVENT
  if at == 0 and base == STAMP then
    return amend(key, LATE, event)
  end
  local packed = call('GET', key)
  local place = base + at * EVENT
  call('SET', key, sub(packed, 1, place) .. event .. sub(packed, place + 1), 'KEEPTTL')
  return (size - base) / EVENT >= SEAL_AT
end

-- Add `events`, in order, to an entity. `keep`: microseconds behind the newest event within which events are kept;
-- `expire`: seconds after which an entity that nothing happens to is forgotten, renewed in each fortnight of events and
-- so longer than both. The usual case, events that are newer than all, is two calls. Whether a client should seal it.
local function add(key, events, keep, expire)
  local newest = call('GETRANGE', key, '-32', '-25') -- Redis reads text faster than Lua's numbers
  if newest == '' then
    call('SET', key, events, 'EX', expire)
    return #events > SEAL_AT * EVENT
  end
  local newest_time, full = time_of(newest), false
  local from, time = 1, time_of(events)
  while time <= newest_time do
    full = insert(key, sub(events, from, from + EVENT - 1), time, newest_time, keep) or full
    from = from + EVENT
    if from > #events then
      return full
    end
    time = time_of(sub(events, from, from + 7))
  end
  local size = call('APPEND', key, from == 1 and events or sub(events, from))
  if #events - from > EVENT then
    time = time_of(sub(events, -EVENT))
  end
  full = grown(key, size, (#events - from + 1) / EVENT, time, keep) or full
  if floor(time / FORTNIGHT) ~= floor(newest_time / FORTNIGHT) then
    renew(key, size, expire)
  end
  return full
end

-- Change when an event became known as fraud. `change`, 32 bytes: its time and id, that moment, what that was before.
-- Nothing if the event is no longer there. Whether a client should seal the entity.
local function mark(key, change)
  local size = call('STRLEN', key)
  local at, found = find(key, size, change)
  local base = size % EVENT
  if found then
    call('SETRANGE', key, base + at * EVENT + 24, sub(change, 17, 24))
  elseif at == 0 and base == STAMP then
    return amend(key, MARKED, change)
  end
  return false
end
