-- Labels: on one server all of a call at once; on a cluster a partition at a time, windows before records, so that a
-- call that ends halfway is completed by the next one that tells the label.
--
-- KEYS: n transactions, then an entity for each event to mark, m; on one server also the head.
-- ARGV: n, m, the labels (9 bytes each: known at, label), the events to mark (32 bytes each: time, id, known as
--       fraud at, what that was before); on one server also a batch that names the entities.
-- Answers of which entities, counted from 1, a client should seal.

local n, m, full = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 1, m do
  if mark(KEYS[n + i], sub(ARGV[4], (i - 1) * 32 + 1, i * 32)) then
    full[#full + 1] = i
  end
end
for i = 1, n do
  local label, size = sub(ARGV[3], (i - 1) * LABEL + 1, i * LABEL), call('STRLEN', KEYS[i])
  if size == REFERENCE then
    call('APPEND', KEYS[i], label)
  elseif size == REFERENCE + LABEL then
    call('SETRANGE', KEYS[i], REFERENCE, label)
  elseif size > 0 then
    call('SETRANGE', KEYS[i], 0, label)
  end
end
if ARGV[5] then
  local head = KEYS[n + m + 1]
  local newest = newest_of(head)
  add_batch(head, after(sub(newest, 1, 8)), following(ARGV[5], newest))
end
return full
