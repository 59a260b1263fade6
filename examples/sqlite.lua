-- A database in memory: statements with and without parameters, and a callback
-- for each row. Needs nothing but `ffi`.

local ffi = require("ffi")

ffi.cdef [[
  typedef struct sqlite3 sqlite3;
  typedef struct sqlite3_stmt sqlite3_stmt;
  typedef void (*sqlite3_destructor_type)(void *);

  int sqlite3_open(const char *filename, sqlite3 **ppDb);
  int sqlite3_close(sqlite3 *db);
  const char *sqlite3_errmsg(sqlite3 *db);
  void sqlite3_free(void *memory);

  int sqlite3_exec(sqlite3 *db, const char *sql,
                   int (*callback)(void *data, int columns, char **values, char **names),
                   void *data, char **errmsg);

  int sqlite3_prepare_v2(sqlite3 *db, const char *sql, int bytes,
                         sqlite3_stmt **ppStmt, const char **pzTail);
  int sqlite3_bind_int(sqlite3_stmt *stmt, int index, int value);
  int sqlite3_bind_text(sqlite3_stmt *stmt, int index, const char *text, int bytes,
                        sqlite3_destructor_type destructor);
  int sqlite3_step(sqlite3_stmt *stmt);
  int sqlite3_reset(sqlite3_stmt *stmt);
  int sqlite3_finalize(sqlite3_stmt *stmt);
  int sqlite3_column_int(sqlite3_stmt *stmt, int column);
  int sqlite3_column_bytes(sqlite3_stmt *stmt, int column);
  const unsigned char *sqlite3_column_text(sqlite3_stmt *stmt, int column);
]]

local SQLITE_OK, SQLITE_ROW, SQLITE_DONE = 0, 100, 101

-- "Copy the text before you return": what is bound may be collected afterwards.
local SQLITE_TRANSIENT = ffi.cast("sqlite3_destructor_type", -1)

-- Without the development package only the name with the version is there.
local function load(...)
  local reasons = {}
  for _, name in ipairs { ... } do
    local ok, library = pcall(ffi.load, name)
    if ok then
      return library
    end
    reasons[#reasons + 1] = tostring(library)
  end
  error(table.concat(reasons, "\n"), 0)
end

local sqlite = load("sqlite3", "libsqlite3.so.0")

local handle = ffi.new("sqlite3 *[1]")
assert(sqlite.sqlite3_open(":memory:", handle) == SQLITE_OK, "no database in memory")
local db = handle[0]

local function check(code, wanted)
  if code ~= wanted then
    error(("sqlite: %s (%d)"):format(ffi.string(sqlite.sqlite3_errmsg(db)), code), 2)
  end
end

-- Runs `sql`; `row`, if there is one, gets a table for each row.
local function exec(sql, row)
  local callback = row and ffi.cast("int (*)(void *, int, char **, char **)",
    function(_, columns, values, names)
      local fields = {}
      for i = 0, columns - 1 do
        if values[i] ~= nil then
          fields[ffi.string(names[i])] = ffi.string(values[i])
        end
      end
      row(fields)
      return 0
    end)
  local message = ffi.new("char *[1]")
  local code = sqlite.sqlite3_exec(db, sql, callback, nil, message)
  if callback then
    callback:free()
  end
  if code ~= SQLITE_OK then
    local text = message[0] ~= nil and ffi.string(message[0]) or "no message"
    sqlite.sqlite3_free(message[0])
    error(("sqlite: %s (%d)"):format(text, code), 2)
  end
end

local function prepare(sql)
  local statement = ffi.new("sqlite3_stmt *[1]")
  check(sqlite.sqlite3_prepare_v2(db, sql, #sql, statement, nil), SQLITE_OK)
  return statement[0]
end

exec "CREATE TABLE moon (name TEXT NOT NULL, planet TEXT NOT NULL, found INTEGER)"

local moons = {
  { "Io", "Jupiter", 1610 },
  { "Europa", "Jupiter", 1610 },
  { "Titan", "Saturn", 1655 },
  { "Triton", "Neptune", 1846 },
  { "Amalthea", "Jupiter", 1892 },
}

local insert = prepare "INSERT INTO moon VALUES (?, ?, ?)"
for _, moon in ipairs(moons) do
  local name, planet, found = unpack(moon)
  check(sqlite.sqlite3_bind_text(insert, 1, name, #name, SQLITE_TRANSIENT), SQLITE_OK)
  check(sqlite.sqlite3_bind_text(insert, 2, planet, #planet, SQLITE_TRANSIENT), SQLITE_OK)
  check(sqlite.sqlite3_bind_int(insert, 3, found), SQLITE_OK)
  check(sqlite.sqlite3_step(insert), SQLITE_DONE)
  check(sqlite.sqlite3_reset(insert), SQLITE_OK)
end
check(sqlite.sqlite3_finalize(insert), SQLITE_OK)

print "sqlite3_exec with a callback: moons of each planet"
exec("SELECT planet, count(*) AS moons FROM moon GROUP BY planet ORDER BY planet", function(row)
  print(("  %-8s %s"):format(row.planet, row.moons))
end)

print "a prepared statement, bound and stepped: found before 1700"
local query = prepare "SELECT name, found FROM moon WHERE found < ? ORDER BY found, name"
check(sqlite.sqlite3_bind_int(query, 1, 1700), SQLITE_OK)
local code = sqlite.sqlite3_step(query)
while code == SQLITE_ROW do
  local name, length = sqlite.sqlite3_column_text(query, 0), sqlite.sqlite3_column_bytes(query, 0)
  print(("  %-8s %d"):format(ffi.string(name, length), sqlite.sqlite3_column_int(query, 1)))
  code = sqlite.sqlite3_step(query)
end
check(code, SQLITE_DONE)
check(sqlite.sqlite3_finalize(query), SQLITE_OK)

local ok, message = pcall(exec, "SELECT diameter FROM moon")
assert(not ok)
print("a mistake: " .. message:match("sqlite: .*"))

check(sqlite.sqlite3_close(db), SQLITE_OK)
print "closed"
