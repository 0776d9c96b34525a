-- Short-lived tables, strings and closures; prints a number by which the result can be checked.
local function tree(depth, key)
  if depth == 0 then return nil end
  return { key = key, left = tree(depth - 1, 2 * key), right = tree(depth - 1, 2 * key + 1) }
end

local function count(node)
  if not node then return 0 end
  return 1 + count(node.left) + count(node.right)
end

local function words(n)
  local counts, total = {}, 0
  for i = 0, n - 1 do
    local word = "word number " .. (i * 7919 % 5003)
    counts[word] = counts[word] or {}
    table.insert(counts[word], function() return i end)
  end
  for _, list in pairs(counts) do total = total + #list end
  return total
end

local total = 0
for _ = 1, tonumber(arg[1]) do
  total = total + count(tree(14, 1)) + words(60000)
  local parts = {}
  for i = 1, 30000 do parts[i] = tostring(i) .. "," end
  total = total + #table.concat(parts)
end
print(total)
