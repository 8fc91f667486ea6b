-- A busy entity's older events: a ledger, as Python's `ledger` module packs it, in a second string; its key is the
-- entity's with an `l` behind it, in the same slot. Lua does not read a ledger: what changes older events is put behind
-- it as an amendment (40 bytes: kind, time, id, then amount and known as fraud at, or known as fraud at and what that was
-- before), and a client makes ledger and amendments one when it next writes the ledger (seal.lua).
--
-- The entity's own string then begins with a stamp (16 bytes): the ledger's version, its bytes, and how many amendments
-- follow (uint32 each). All that a client may hold of a ledger is right while the stamp is the same. A script touches both
-- strings or none, and both expire in the same moment.

local STAMP = 16
local AMENDMENT = 40
local LATE, MARKED = '\0\0\0\0\0\0\0\0', '\1\0\0\0\0\0\0\0'

local function ledger_of(key)
  return key .. 'l'
end

-- Add an amendment; one that was told a moment ago is not told again. Whether there are so many that the ledger should
-- be written anew.
local function amend(key, kind, change)
  local amendment = kind .. change
  local bytes, n = struct.unpack('<I4I4', redis.call('GETRANGE', key, 8, STAMP - 1))
  local first = math.max(0, n - MOST_AMENDMENTS)
  local there = redis.call('GETRANGE', ledger_of(key), bytes + first * AMENDMENT, -1)
  for i = n - 1 - first, 0, -1 do
    local other = string.sub(there, i * AMENDMENT + 1, (i + 1) * AMENDMENT)
    if string.sub(other, 1, 24) == string.sub(amendment, 1, 24) then
      if kind == LATE or other == amendment then
        return n >= MOST_AMENDMENTS
      end
      break
    end
  end
  redis.call('APPEND', ledger_of(key), amendment)
  redis.call('SETRANGE', key, 12, struct.pack('<I4', n + 1))
  return n + 1 >= MOST_AMENDMENTS
end
