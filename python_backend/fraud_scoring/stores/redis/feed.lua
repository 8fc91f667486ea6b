-- What happened on one server, in order: each call that changes something leaves a batch (feed.py) under the next number.
-- A batch holds the records of its transactions; under each id there is a reference to one of them (16 bytes: the batch's
-- number, big-endian; where in it, uint32; bytes of the answer and columns of the row, uint16), and behind it the label
-- once there is one (9 bytes, as at the beginning of a record: transactions.lua). No record is 16 or 25 bytes long.
--
-- The head, beside the batches, says which batch is the newest: its number, and eight bytes by chance, which tell two
-- batches apart that came under the same number, as after a failover that lost some.

local spread = unpack
local NOBODY = string.rep('\0', 16)
local REFERENCE, LABEL = 16, 9
local UNLABELLED = string.rep('\0', 8) .. '\255'
local BATCH_HEAD = 64
local DAY_AT, PREVIOUS_AT = 20, 40

local function newest_of(head)
  return redis.call('GET', head) or NOBODY
end

local function after(number)
  local high, low = struct.unpack('>I4I4', number)
  low = low + 1
  if low == 4294967296 then
    high, low = high + 1, 0
  end
  return struct.pack('>I4I4', high, low)
end

-- A batch as it says what was before it.
local function following(batch, newest)
  return string.sub(batch, 1, PREVIOUS_AT) .. newest .. string.sub(batch, PREVIOUS_AT + 17)
end

-- Make `batch` the newest, under `number`.
local function add_batch(head, number, batch)
  redis.call('SET', head .. number, batch)
  redis.call('SET', head, number .. string.sub(batch, BATCH_HEAD - 7, BATCH_HEAD))
end

local function is_reference(stood)
  return #stood == REFERENCE or #stood == REFERENCE + LABEL
end

local function batch_of(head, reference)
  return head .. string.sub(reference, 1, 8)
end

-- Row and answer that a reference refers to, or their first `bytes`.
local function referred(head, reference, bytes)
  local at, answer, columns = struct.unpack('<I4I2I2', reference, 9)
  return redis.call('GETRANGE', batch_of(head, reference), at, at + (bytes or columns * 8 + answer) - 1)
end

-- The day, as four bytes, on which what stood under an id came; '' where its batch was forgotten.
local function day_of(head, stood)
  if is_reference(stood) then
    return redis.call('GETRANGE', batch_of(head, stood), DAY_AT, DAY_AT + 3)
  end
  return string.sub(stood, 13, 16)
end

-- What stood under an id, as a record.
local function as_record(head, stood)
  if not is_reference(stood) then
    return stood
  end
  local label = #stood == REFERENCE and UNLABELLED or string.sub(stood, REFERENCE + 1)
  return label .. '\0' .. string.sub(stood, 15, 16) .. day_of(head, stood) .. referred(head, stood)
end
