-- A part of a batch on a cluster, second step: the events of the entities of one partition and column.
--
-- KEYS: an entity for each event. ARGV: the events (32 bytes each), keep, expire.

for i = 1, #KEYS do
  insert(KEYS[i], string.sub(ARGV[1], (i - 1) * EVENT + 1, i * EVENT), tonumber(ARGV[2]), ARGV[3])
end
