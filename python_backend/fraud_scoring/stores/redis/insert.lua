-- A part of a batch on a cluster, second step: the events of the entities of one partition and column.
--
-- KEYS: an entity for each event. ARGV: the events (32 bytes each), keep, expire.

local keep = tonumber(ARGV[2])
for i = 1, #KEYS do
  local event = sub(ARGV[1], (i - 1) * EVENT + 1, i * EVENT)
  insert(KEYS[i], event, time_of(event), keep, ARGV[3])
end
