-- A batch on one server, where all keys may be touched together: the whole of it takes effect, or nothing.
--
-- KEYS: n transactions, then the entities whose events do not wait (waiting.py), column by column, then what says up to
-- which batch each partition is written, and the head.
-- ARGV: n; whether all ids differ (0, 1; 2: they do, and nothing is to happen unless all are new); references; the batch;
--       the newest batch by what the client knows; partitions if nothing waits in any of them, else 0; oldest day; bytes
--       of a row; bytes of its answer; the events that do not wait (32 bytes each); of which transactions they are
--       (uint32 each, counted from 1); then for each entity column: how many of them, keep, expire.
-- Answers 0 if nothing happened; false if all were added, else for each transaction false or what stood there; of which
-- of KEYS, counted from 1, a client should seal the entity; false if the client knew the newest batch, else that one; and
-- whether there is a batch now: a call of which all was known leaves none.
--
-- For a client that knows the newest batch references and batch have the right number; else it is set right here.

local n = tonumber(ARGV[1])
local references, batch, oldest_day = ARGV[3], ARGV[4], tonumber(ARGV[7])
local row_bytes, answer_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local head = KEYS[#KEYS]
local newest = newest_of(head)
local known = newest == ARGV[5]
local number = after(sub(newest, 1, 8))
if not known then
  batch = following(batch, newest)
end

local function reference_to(i)
  local from = (i - 1) * REFERENCE
  if known then
    return sub(references, from + 1, from + REFERENCE)
  end
  return number .. sub(references, from + 9, from + REFERENCE)
end

local function row_at(i)
  local from = BATCH_HEAD + (i - 1) * (row_bytes + answer_bytes)
  return sub(batch, from + 1, from + row_bytes)
end

-- Whether what stood is a record of the same row, without an answer.
local function is_history(stood, i)
  if is_reference(stood) then
    local its_answer, its_columns = unpack('<I2I2', stood, 13)
    return its_answer == 0 and its_columns * 8 == row_bytes and referred(head, stood, row_bytes) == row_at(i)
  end
  return #stood == HEADER + row_bytes and sub(stood, HEADER + 1) == row_at(i)
end

local before_it, all_added, has_batch = {}, false, true
if ARGV[2] ~= '0' then
  local pairs_of = {}
  for i = 1, n do
    pairs_of[2 * i - 1], pairs_of[2 * i] = KEYS[i], reference_to(i)
  end
  local added = redis.pcall('MSETNX', spread(pairs_of))
  if ARGV[2] == '2' and (added == 0 or added ~= 1 and call('EXISTS', spread(KEYS, 1, n)) > 0) then
    return { 0, {}, false, 0 }
  end
  all_added = added == 1 -- a user who may not takes the long way
end
if not all_added then
  local repeated = {}
  has_batch = false
  for i = 1, n do
    local mine = reference_to(i)
    local stood = call('SET', KEYS[i], mine, 'NX', 'GET')
    if stood and not (is_reference(stood) and sub(stood, 1, 8) == number) then -- not of this very call
      local day = day_of(head, stood)
      if day == '' or unpack('<i4', day) < oldest_day then
        call('SET', KEYS[i], mine)
        stood = false
      end
    end
    before_it[i] = stood
    if stood then
      repeated[#repeated + 1] = struct.pack('<I4', i - 1)
      if answer_bytes > 0 and is_history(stood, i) then
        if is_reference(stood) then
          call('SET', KEYS[i], mine .. sub(stood, REFERENCE + 1))
          has_batch = true
        else
          local from = BATCH_HEAD + (i - 1) * (row_bytes + answer_bytes) + row_bytes
          call('APPEND', KEYS[i], sub(batch, from + 1, from + answer_bytes))
        end
      end
    else
      has_batch = true
    end
  end
  batch = batch .. table.concat(repeated)
end
if has_batch then
  add_batch(head, number, batch)
  if known and ARGV[6] ~= '0' then
    call('SET', KEYS[#KEYS - 1], string.rep(number, tonumber(ARGV[6])))
  end
end

local full, one = {}, 0
for at = 12, #ARGV, 3 do
  local keep, expire = tonumber(ARGV[at + 1]), ARGV[at + 2]
  for _ = 1, tonumber(ARGV[at]) do
    one = one + 1
    if not before_it[unpack('<I4', ARGV[11], 4 * one - 3)]
        and add(KEYS[n + one], sub(ARGV[10], (one - 1) * EVENT + 1, one * EVENT), keep, expire) then
      full[#full + 1] = n + one
    end
  end
end
if not all_added then
  for i = 1, n do
    before_it[i] = before_it[i] and as_record(head, before_it[i])
  end
end
return { not all_added and before_it, full, not known and newest, has_batch and 1 or 0 }
