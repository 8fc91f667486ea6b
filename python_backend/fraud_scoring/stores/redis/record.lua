-- A batch on one server, where all keys may be touched together: the whole of it takes effect, or nothing.
--
-- KEYS: the keys of n transactions, then of their n entities in the first column, in the second ...
-- ARGV: n, bytes of a record, bytes of it without its answer, oldest day, seconds to keep a record,
--       the records, the events (32 bytes each, one a transaction), then for each entity column: keep, expire.
-- Answers false if all were added, else for each transaction false or what stood there; and of which of KEYS, counted
-- from 1, a client should seal the entity.

local n, size, without_answer, oldest_day = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local expire_record, records, events = ARGV[5], ARGV[6], ARGV[7]
local columns = (#ARGV - 7) / 2
local keep, expire = {}, {}
for column = 1, columns do
  keep[column], expire[column] = tonumber(ARGV[6 + 2 * column]), ARGV[7 + 2 * column]
end

local before_it, all_added, full = {}, true, {}
for i = 1, n do
  local record = sub(records, (i - 1) * size + 1, i * size)
  local stood = enter(KEYS[i], record, without_answer, oldest_day, expire_record)
  before_it[i] = stood
  if stood then
    all_added = false
  else
    local event = sub(events, (i - 1) * EVENT + 1, i * EVENT)
    local time = time_of(event)
    for column = 1, columns do
      if insert(KEYS[column * n + i], event, time, keep[column], expire[column]) then
        full[#full + 1] = column * n + i
      end
    end
  end
end
return {not all_added and before_it, full}
