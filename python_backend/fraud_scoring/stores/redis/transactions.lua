-- One transaction's record: label known at (int64), label (int8; -1 none), pending (0, 1), columns (uint16), the day on
-- which it came (int32), the row (int64 each), and the answer where there is one; little-endian.
--
-- `pending` is set while the events of the transaction may not be in all its windows: see reserve.lua.

local HEADER = 16
local PENDING_AT = 9

-- Enter `record`; false if it was added, else what stood there. A record older than `oldest_day` counts as forgotten.
-- An answer is added to a record of the same row that has none: its first `without_answer` bytes are header and row.
local function enter(key, record, without_answer, oldest_day, expire)
  local stood = redis.call('SET', key, record, 'NX', 'GET', 'EX', expire)
  if not stood then
    return false
  end
  if struct.unpack('<i4', stood, 13) < oldest_day then
    redis.call('SET', key, record, 'EX', expire)
    return false
  end
  if #stood == without_answer and #record > without_answer
      and string.sub(stood, HEADER + 1) == string.sub(record, HEADER + 1, without_answer) then
    redis.call('APPEND', key, string.sub(record, without_answer + 1))
  end
  return stood
end
