# Short-lived dictionaries, lists, strings and objects; prints a number by which the result can be checked.
import sys

class Node:
    def __init__(self, key, left, right):
        self.key, self.left, self.right = key, left, right

def tree(depth, key):
    if depth == 0:
        return None
    return Node(key, tree(depth - 1, 2 * key), tree(depth - 1, 2 * key + 1))

def count(node):
    return 0 if node is None else 1 + count(node.left) + count(node.right)

def words(n):
    counts = {}
    for i in range(n):
        word = "w%d" % (i * 7919 % 5003)
        counts.setdefault(word, []).append(i)
    return sum(len(v) for v in counts.values())

total = 0
for turn in range(int(sys.argv[1])):
    total += count(tree(13, 1))
    total += words(40000)
    total += len("".join(str(i) + "," for i in range(20000)).split(","))
print(total)
