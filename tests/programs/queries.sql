-- Fills, indexes, joins, aggregates, changes and vacuums a database of a few hundred thousand rows.
-- One of the programs of .ci/programs: the output and the database file must not depend on the allocator.
PRAGMA journal_mode = WAL;
PRAGMA cache_size = -4000;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind INTEGER, price REAL, body BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
INSERT INTO item SELECT i, printf('item %06d', i * 7919 % 120011), i * 31 % 97, (i * 17 % 1000) / 8.0,
  CASE WHEN i % 50 = 0 THEN zeroblob(i % 9000) ELSE hex(i * i) END FROM n;
CREATE INDEX item_kind ON item(kind, price);
CREATE UNIQUE INDEX item_name ON item(name);
CREATE TABLE sale(item INTEGER REFERENCES item(id), day INTEGER, amount INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
INSERT INTO sale SELECT i * 104729 % 120000 + 1, i % 365, i % 13 + 1 FROM n;
CREATE INDEX sale_item ON sale(item);
SELECT count(*), sum(length(body)), min(name), max(name) FROM item;
SELECT kind, count(*), sum(amount * price), group_concat(DISTINCT amount)
  FROM item JOIN sale ON sale.item = item.id GROUP BY kind ORDER BY kind;
SELECT day, total, sum(total) OVER (ORDER BY day ROWS 6 PRECEDING), rank() OVER (ORDER BY total DESC)
  FROM (SELECT day, sum(amount) AS total FROM sale GROUP BY day) ORDER BY day;
SELECT name FROM item WHERE name LIKE '%99%' ORDER BY price, name LIMIT 500;
WITH RECURSIVE path(a, b, text) AS (
  SELECT 1, 1, '1' UNION ALL SELECT b, a + b, text || '/' || (a + b) FROM path WHERE length(text) < 5000)
SELECT count(*), max(length(text)) FROM path;
SELECT json_group_array(json_object('kind', kind, 'n', n)) FROM (SELECT kind, count(*) AS n FROM item GROUP BY kind);
UPDATE item SET body = body || name, price = price * 1.1 WHERE kind % 3 = 0;
DELETE FROM item WHERE id % 4 = 0;
SELECT count(*), total(price), sum(length(body)) FROM item;
PRAGMA journal_mode = DELETE;
VACUUM;
PRAGMA integrity_check;
PRAGMA foreign_key_check(item);
