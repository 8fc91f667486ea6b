-- One entity's window, as Python's `events` module packs it: 32 bytes an event (time, transaction id, amount, known as
-- fraud at; little-endian int64), sorted by (time, id), in one string.
--
-- A string and not a sorted set: 32 bytes an event instead of about 100, one APPEND for an event that is the newest, and
-- a read hands over the bytes that the feature kernel works on. Numbers in Lua are doubles: ids are therefore compared
-- as halves of 32 bits, exactly; times in microseconds are exact in a double until the year 2255.

local call, sub, unpack, floor = redis.call, string.sub, struct.unpack, math.floor
local EVENT = 32
local WEEK = 7 * 86400 * 1000000
local TRIM_EVERY = 16 * EVENT

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

local function order_at(key, index)
  return call('GETRANGE', key, index * EVENT, index * EVENT + 15)
end

-- Where `event` is or belongs among `count` events, and whether it is there.
local function find(key, count, event)
  local low, high = 0, count
  while low < high do
    local middle = floor((low + high) / 2)
    if before(order_at(key, middle), event) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low, low < count and order_at(key, low) == sub(event, 1, 16)
end

-- Drop what is not later than `oldest`, once an eighth of the events is: so each event is moved few times in its life.
local function trim(key, count, oldest)
  if time_of(order_at(key, floor(count / 8))) > oldest then
    return
  end
  local low, high = 0, count
  while low < high do
    local middle = floor((low + high) / 2)
    if time_of(order_at(key, middle)) > oldest then
      high = middle
    else
      low = middle + 1
    end
  end
  call('SET', key, call('GETRANGE', key, low * EVENT, -1), 'KEEPTTL')
end

-- Put `event`, which is of `time`, at its place. `keep`: microseconds behind the newest event within which events are
-- kept; `expire`: seconds after which an entity that nothing happens to is forgotten, renewed in each week of events and
-- so longer than both. The usual case, an event that is newer than all, is two calls.
local function insert(key, event, time, keep, expire)
  local newest = call('GETRANGE', key, -EVENT, -25)
  if newest == '' then
    call('SET', key, event, 'EX', expire)
    return
  end
  local newest_time = time_of(newest)
  if time > newest_time then
    local size = call('APPEND', key, event)
    if size % TRIM_EVERY == 0 then
      trim(key, size / EVENT, time - keep)
    end
    if floor(time / WEEK) ~= floor(newest_time / WEEK) then
      call('EXPIRE', key, expire)
    end
  elseif time > newest_time - keep then
    local at, found = find(key, call('STRLEN', key) / EVENT, event)
    if not found then
      local packed = call('GET', key)
      call('SET', key, sub(packed, 1, at * EVENT) .. event .. sub(packed, at * EVENT + 1), 'KEEPTTL')
    end
  end
end

-- Change when `event` became known as fraud to the eight bytes `known`; nothing if the event is no longer there.
local function mark(key, event, known)
  local at, found = find(key, call('STRLEN', key) / EVENT, event)
  if found then
    call('SETRANGE', key, at * EVENT + 24, known)
  end
end
