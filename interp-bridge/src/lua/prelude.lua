-- Builds the module `ffi` on LuaJIT's own, which parses C and makes the cdata, and on the session's
-- core, which has the memory. Functions of the core return true and results, false and a message,
-- or nil and a metamethod of the script's.
local native, core = ...

local type, error, pcall, select, tostring, rawset = type, error, pcall, select, tostring, rawset
local getinfo = debug.getinfo
local tonumber_of_lua, setmetatable, newproxy, getmetatable = tonumber, setmetatable, newproxy,
  getmetatable
local istype, typeof_native, gc_native = native.istype, native.typeof, native.gc

-- Fields that no script can name by accident.
native.cdef "typedef struct { uint64_t \xc3\xa0, \xc3\xa1, \xc3\xa2; } \xc3\xa3;"
local Boxed = typeof_native("\xc3\xa3")

-- What follows a native call: handlers of `trace.on`.
local after_call

-- Raises a message at the line of the script that is running; an error of the script's own as it is.
local function raise(message, thrown)
  if thrown then error(message, 0) end
  local level = 2
  while true do
    local info = getinfo(level, "S")
    if not info then error(message, 0) end
    if info.what ~= "C" and info.source ~= "=[ffi]" and info.source ~= "=[trace]" then
      error(message, level)
    end
    level = level + 1
  end
end

-- The results of the core, or its error.
local function checked(ok, ...)
  if ok then return ... end
  raise(...)
end

-- Types

local ids = {}

local function native_of(id)
  return (checked(core.retarget(typeof_native("int"), id)))
end

local function natives(...)
  local count = select("#", ...)
  if count == 0 then return end
  local all = { ... }
  for i = 1, count do
    local given = all[i]
    if istype(Boxed, given) then all[i] = native_of(checked(core.type_of(given))) end
  end
  return unpack(all, 1, count)
end

-- LuaJIT's message without the place in our code.
local function plain(message)
  return (tostring(message):gsub("^%[?[^%s]-:%d+: ", ""))
end

-- The number of the type that a string, a ctype or a cdata names.
local function id_of(ct, ...)
  if type(ct) == "string" then
    local known = ids[ct]
    if known and select("#", ...) == 0 then return known end
    local ok, made = pcall(typeof_native, ct, natives(...))
    if not ok then return nil, plain(made) end
    local id = tonumber_of_lua(made)
    -- A struct, union or enumeration that is declared in it is another each time.
    if select("#", ...) == 0 and not ct:find("{", 1, true) then ids[ct] = id end
    return id
  end
  if type(ct) ~= "cdata" then
    return nil, "bad argument #1 (C type expected, got " .. type(ct) .. ")"
  end
  local ok, id = core.type_of(ct)
  if not ok then return nil, id end
  return id
end

-- Memory that cdata own

local closing = false
local failure

local function release(cdata)
  -- At the end finalizers run in no order, and may need what others own.
  if not closing then core.release(cdata) end
end

-- Finalizers of the script's, by what they are for, with a number: the last comes first at the end.
local finalizers = setmetatable({}, { __mode = "k" })
local made = 0

local function finalize_by(cdata, owns, finalizer)
  made = made + 1
  finalizers[cdata] = { finalizer, made }
  if not owns then return gc_native(cdata, finalizer) end
  return gc_native(cdata, function(value)
    finalizer(value)
    release(value)
  end)
end

local function owned(cdata)
  local ok, finalizer = core.__gc(cdata)
  if ok and finalizer then return finalize_by(cdata, true, finalizer) end
  return gc_native(cdata, release)
end

-- Runs what is left of finalizers, while everything is still there; returns what they raised.
local function close()
  closing = true
  local left, errors = {}, {}
  for cdata, entry in pairs(finalizers) do left[#left + 1] = { cdata, entry[1], entry[2] } end
  table.sort(left, function(a, b) return a[3] > b[3] end)
  for _, entry in ipairs(left) do
    gc_native(entry[1], nil)
    local ok, message = pcall(entry[2], entry[1])
    if not ok then errors[#errors + 1] = tostring(message) end
  end
  return errors
end

-- Metamethods of cdata

local metatable = {}

function metatable.__index(cdata, key)
  local ok, value, thrown = core.index(cdata, key)
  if ok then return value end
  if ok == nil then
    if type(value) == "function" then return value(cdata, key) end
    value = value[key]
    if value ~= nil then return value end
    local _, name = core.tostring(cdata)
    raise(("'%s' has no member named '%s'"):format(name:match("<(.*)>") or name, tostring(key)))
  end
  raise(value, thrown)
end

function metatable.__newindex(cdata, key, new)
  local ok, value, thrown = core.newindex(cdata, key, new)
  if ok then return end
  if ok == nil then
    if type(value) == "function" then return value(cdata, key, new) end
    value[key] = new
    return
  end
  raise(value, thrown)
end

function metatable.__call(cdata, ...)
  local ok, value, more = core.call(cdata, ...)
  if ok then
    if more then value = owned(value) end
    if after_call then after_call() end
    -- No result at all.
    if ok == 0 then return end
    return value
  end
  if ok == nil then return value(cdata, ...) end
  if after_call then after_call() end
  raise(value, more)
end

function metatable.__tostring(cdata)
  local _, handler = core.__tostring(cdata)
  if handler then return handler(cdata) end
  return (checked(core.tostring(cdata)))
end

for _, name in ipairs { "__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm", "__eq", "__lt",
  "__le", "__len", "__concat" } do
  local operate = core[name]
  metatable[name] = function(a, b)
    local ok, value, thrown = operate(a, b)
    if ok then return value end
    if ok == nil then return value(a, b) end
    raise(value, thrown)
  end
end

for _, name in ipairs { "__pairs", "__ipairs" } do
  local find = core[name]
  metatable[name] = function(cdata)
    local _, handler = find(cdata)
    if handler then return handler(cdata) end
    local _, text = core.tostring(cdata)
    raise(("attempt to iterate over '%s'"):format(text:match("<(.*)>") or text))
  end
end

native.metatype(Boxed, metatable)

-- The module

local ffi = { os = native.os, arch = native.arch, abi = native.abi }

function ffi.cdef(text, ...)
  if type(text) ~= "string" then
    raise("bad argument #1 to 'cdef' (string expected, got " .. type(text) .. ")")
  end
  local ok, message = pcall(native.cdef, text, natives(...))
  if not ok then raise(plain(message)) end
end

function ffi.typeof(ct, ...)
  local id, message = id_of(ct, ...)
  if not id then raise(message) end
  return (checked(core.new_type(id)))
end

function ffi.new(ct, ...)
  local id, message = id_of(ct)
  if not id then raise(message) end
  local ok, value, more = core.new(id, ...)
  if not ok then raise(value, more) end
  if more then return owned(value) end
  return value
end

function ffi.cast(ct, ...)
  local id, message = id_of(ct)
  if not id then raise(message) end
  return (checked(core.cast(id, (...))))
end

function ffi.sizeof(ct, count)
  if type(ct) == "cdata" then return (checked(core.sizeof(ct, nil, count))) end
  local id, message = id_of(ct)
  if not id then raise(message) end
  return (checked(core.sizeof(nil, id, count)))
end

function ffi.alignof(ct)
  local id, message = id_of(ct)
  if not id then raise(message) end
  return (checked(core.alignof(id)))
end

function ffi.offsetof(ct, field)
  local id, message = id_of(ct)
  if not id then raise(message) end
  local ok, offset, position, bits = core.offsetof(id, field)
  if not ok then raise(offset) end
  if position then return offset, position, bits end
  return offset
end

function ffi.istype(ct, value)
  local id, message = id_of(ct)
  if not id then raise(message) end
  return (checked(core.istype(id, value)))
end

function ffi.metatype(ct, methods)
  local id, message = id_of(ct)
  if not id then raise(message) end
  if type(methods) ~= "table" then
    raise("bad argument #2 to 'metatype' (table expected, got " .. type(methods) .. ")")
  end
  if checked(core.is_complex(id)) then
    native.metatype(native_of(id), methods)
  else
    checked(core.metatype(id, methods))
  end
  return (checked(core.new_type(id)))
end

function ffi.gc(cdata, finalizer)
  if type(cdata) ~= "cdata" then
    raise("bad argument #1 to 'gc' (cdata expected, got " .. type(cdata) .. ")")
  end
  local ok, owns = core.owns(cdata)
  owns = ok and owns
  if finalizer == nil then
    finalizers[cdata] = nil
    return gc_native(cdata, owns and release or nil)
  end
  if type(finalizer) ~= "function" then
    local work = finalizer
    finalizer = function(value) return work(value) end
  end
  return finalize_by(cdata, owns, finalizer)
end

function ffi.string(value, len) return (checked(core.string(value, len))) end
function ffi.copy(to, from, len) checked(core.copy(to, from, len)) end
function ffi.fill(to, len, byte) checked(core.fill(to, len, byte)) end
function ffi.errno(new) return (checked(core.errno(new))) end

-- Namespaces of functions and variables

local namespaces = setmetatable({}, { __mode = "k" })

local function namespace(number)
  local proxy = newproxy(true)
  local known = {}
  local methods = getmetatable(proxy)
  setmetatable(known, {
    __index = function(_, name)
      if type(name) ~= "string" then
        raise("bad argument #2 to '__index' (string expected, got " .. type(name) .. ")")
      end
      local ok, value, stays = core.symbol(number, name)
      if not ok then raise(value, stays) end
      if stays then rawset(known, name, value) end
      return value
    end,
  })
  methods.__index = known
  function methods.__newindex(_, name, value)
    local ok, message = core.set_symbol(number, name, value)
    if not ok then raise(message) end
  end
  methods.__metatable = "ffi"
  namespaces[proxy] = number
  return proxy
end

ffi.C = namespace(0)

function ffi.load(name, global)
  if type(name) ~= "string" then
    raise("bad argument #1 to 'load' (string expected, got " .. type(name) .. ")")
  end
  return namespace(checked(core.load(name, not not global)))
end

-- Methods of pointers to callbacks.
local callback_methods = {
  free = function(callback) checked(core.callback_free(callback)) end,
  set = function(callback, work) checked(core.callback_set(callback, work)) end,
}

-- What of Lua's own library knows of cdata

function tonumber(...)
  local value = ...
  if istype(Boxed, value) then
    local ok, number = core.tonumber(value)
    return ok and number or nil
  end
  return tonumber_of_lua(...)
end

local function widened(value)
  if istype(Boxed, value) then return (checked(core.widen(value))) end
  return value
end

for _, name in ipairs { "tobit", "bnot", "bswap" } do
  local work = bit[name]
  bit[name] = function(value) return work(widened(value)) end
end
for _, name in ipairs { "lshift", "rshift", "arshift", "rol", "ror" } do
  local work = bit[name]
  bit[name] = function(value, by) return work(widened(value), widened(by)) end
end
do
  local work = bit.tohex
  function bit.tohex(value, digits)
    if digits == nil then return work(widened(value)) end
    return work(widened(value), digits)
  end
end
for _, name in ipairs { "band", "bor", "bxor" } do
  local work = bit[name]
  bit[name] = function(a, ...)
    local count = select("#", ...)
    if count == 0 then return work(widened(a)) end
    a = widened(a)
    for i = 1, count do a = work(a, widened((select(i, ...)))) end
    return a
  end
end

package.loaded.ffi = ffi

local void = tonumber_of_lua(typeof_native("void"))
local int64, uint64 = typeof_native("int64_t"), typeof_native("uint64_t")
local complex = typeof_native("complex")

return {
  ffi = ffi,
  callback_methods = callback_methods,
  typeinfo = native.typeinfo,
  new_boxed = function() return Boxed() end,
  new_int64 = function() return int64() end,
  new_uint64 = function() return uint64() end,
  new_complex = function() return complex() end,
  name_of = function(id) return tostring(native_of(id)):match("^ctype<(.*)>$") end,
  -- Without a type it is that of `void` itself.
  pointer_to = function(id)
    if not id then return void end
    return tonumber_of_lua(typeof_native("$ *", native_of(id)))
  end,
  type_number = function(name)
    local id, message = id_of(name)
    if not id then error(message, 0) end
    return id
  end,
  is_namespace = function(value) return namespaces[value] ~= nil end,
  guarded = function(work, ...)
    local ok, result = pcall(work, ...)
    return ok, result
  end,
  checked = checked,
  close = close,
  -- Runs a script: true and its results, or false, a message and where it was.
  run = function(work, ...)
    local function reply(ok, ...)
      if ok then return true, ... end
      return false, failure[1], failure[2]
    end
    return reply(xpcall(work, function(raised)
      local text = raised
      if type(text) ~= "string" then text = tostring(raised) end
      if raised == nil then text = "an error without a value" end
      local _, stack = core.lua_stack()
      failure = { text, stack }
      return text
    end, ...))
  end,
  after_call = function(work) after_call = work end,
  types = {
    boxed = tonumber_of_lua(Boxed),
    int64 = tonumber_of_lua(int64),
    uint64 = tonumber_of_lua(uint64),
    complex = tonumber_of_lua(complex),
  },
}
