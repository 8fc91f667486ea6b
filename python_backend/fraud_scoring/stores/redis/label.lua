-- Labels: on one server all of a call at once; on a cluster a partition at a time, windows before records, so that a
-- call that ends halfway is completed by the next one that tells the label.
--
-- KEYS: n transactions, then an entity for each event to mark.
-- ARGV: n, the labels (9 bytes each: known at, label), the events to mark (24 bytes each: time, id, known as fraud at).

local n = tonumber(ARGV[1])
for i = 1, #KEYS - n do
  local event = string.sub(ARGV[3], (i - 1) * 24 + 1, i * 24)
  mark(KEYS[n + i], event, string.sub(event, 17))
end
for i = 1, n do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('SETRANGE', KEYS[i], 0, string.sub(ARGV[2], (i - 1) * 9 + 1, i * 9))
  end
end
