-- What a server says when it fails names its parts: paths, traces, processes, shared memory. It stays inside.
-- A message about a caller's mistake (status 3) passes, unless it looks like one of those.
local OURS = "x-fraud-refusal"
local ours = {
  size = { "3", "the message is larger than it may be; send fewer rows" },
  busy = { "8", "this caller has as many calls on their way as it may; wait for answers" },
}
local plain = {
  ["1"] = "the call was cancelled",
  ["4"] = "no answer in time",
  ["5"] = "nothing of this name is served",
  ["7"] = "this caller may not do that",
  ["8"] = "this caller sends more than it may; send slower",
  ["12"] = "this call is not offered",
  ["14"] = "no server takes the call now",
  ["16"] = "the caller is not known: a token or certificate is missing, wrong or expired",
}
local inside = { "/%w", "%.py", "%.cc", "0x%x", "shm", "memory", "region", "stub", "trace", "line %d", "_r%d%d%d%d", "_%d_%d" }

local function may_pass(message)
  local small = string.lower(message)
  for _, pattern in ipairs(inside) do
    if string.find(small, pattern) then
      return false
    end
  end
  return #message > 3 and #message <= 1000
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get("grpc-status")
  if status == nil or status == "0" then
    return
  end
  local refusal = ours[headers:get(OURS)]
  headers:remove(OURS)
  headers:remove("grpc-status-details-bin")
  if refusal then
    headers:replace("grpc-status", refusal[1])
    headers:replace("grpc-message", refusal[2])
  elseif status ~= "3" then
    headers:replace("grpc-message", plain[status] or "the server failed")
  elseif not may_pass(headers:get("grpc-message") or "") then
    headers:replace("grpc-message", "the request breaks a rule")
  end
end
