-- Forget the oldest batches, and the transactions that refer to them: those that came again since refer to others.
--
-- KEYS: transactions, then the head, and what says which batch is the oldest.
-- ARGV: the number of the oldest batch and of the first that stays, big-endian.
-- Answers whether that was the oldest: somebody else may have been first.

local n = #KEYS - 2
if (redis.call('GET', KEYS[n + 2]) or after(sub(NOBODY, 1, 8))) ~= ARGV[1] then
  return 0
end
local number, batches = ARGV[1], {}
while number ~= ARGV[2] do
  batches[number] = true
  redis.call('DEL', KEYS[n + 1] .. number)
  number = after(number)
end
for i = 1, n do
  local reference = redis.call('GETRANGE', KEYS[i], 0, -1)
  if is_reference(reference) and batches[sub(reference, 1, 8)] then
    redis.call('DEL', KEYS[i])
  end
end
redis.call('SET', KEYS[n + 2], ARGV[2])
return 1
