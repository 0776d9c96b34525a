# Short-lived hashes, arrays, strings and objects; prints a number by which the result can be checked.
Node = Struct.new(:key, :left, :right)

def tree(depth, key)
  depth.zero? ? nil : Node.new(key, tree(depth - 1, 2 * key), tree(depth - 1, 2 * key + 1))
end

def count(node)
  node ? 1 + count(node.left) + count(node.right) : 0
end

def words(n)
  counts = Hash.new { |hash, word| hash[word] = [] }
  n.times { |i| counts["word number #{i * 7919 % 5003} of the list"] << i }
  counts.values.sum(&:size)
end

total = 0
ARGV[0].to_i.times do
  total += count(tree(13, 1)) + words(40_000)
  total += (0...20_000).map { |i| "a text that is too long to be embedded: #{i}" }.join(",").split(",").size
end
puts total
