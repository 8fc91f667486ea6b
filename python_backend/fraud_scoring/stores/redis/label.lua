-- Labels: on one server all of a call at once; on a cluster a partition at a time, windows before records, so that a
-- call that ends halfway is completed by the next one that tells the label.
--
-- KEYS: n transactions, then an entity for each event to mark.
-- ARGV: n, the labels (9 bytes each: known at, label), the events to mark (32 bytes each: time, id, known as
--       fraud at, what that was before).
-- Answers of which entities, counted from 1, a client should seal.

local n, full = tonumber(ARGV[1]), {}
for i = 1, #KEYS - n do
  if mark(KEYS[n + i], sub(ARGV[3], (i - 1) * 32 + 1, i * 32)) then
    full[#full + 1] = i
  end
end
for i = 1, n do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('SETRANGE', KEYS[i], 0, string.sub(ARGV[2], (i - 1) * 9 + 1, i * 9))
  end
end
return full
