-- Lists, hashes and strings are filled, read and deleted. Returns a number.
local total = 0
for i = 1, 300 do
  local list, hash = "list" .. i % 40, "hash" .. i % 40
  for k = 1, 4 do
    redis.call("RPUSH", list, "element " .. k * i)
    redis.call("HSET", hash, "field" .. k * i % 97, string.rep("v", 1 + k * i % 200))
  end
  redis.call("SET", "text" .. i % 500, string.rep("x", i % 900))
  total = total + #redis.call("LRANGE", list, 0, 20) + redis.call("HLEN", hash)
  if i % 10 == 0 then redis.call("DEL", list, hash) end
end
return total
