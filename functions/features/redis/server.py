"""The functions that run inside Redis: what has to be one step is done there. A text, for only Python files are deployed."""

LIBRARY = r"""#!lua name=lifeboat

-- Rows as hashes, with the record of each change in a stream, written in one step: the server runs a function to its end or
-- not at all, so no crash leaves the one without the other. Needs Redis 7 or Valkey, with cluster mode off, for a row and the
-- stream are two keys. Numbers are doubles here; versions are milliseconds and stay exact up to 2^53.

local VERSION, HEADER = '\0v', '\0h'

local function text(number)
  return string.format('%.0f', number)
end

local function known_version(key)
  local found = redis.call('HGET', key, VERSION)
  if found then return tonumber(found) end
  return nil
end

-- Milliseconds rounded down to a multiple of 4, above the last version, plus the number of the site.
local function stamp(last, site)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local version = now - now % 4
  if last and last - last % 4 + 4 > version then version = last - last % 4 + 4 end
  return version + site
end

-- A record without names stands for the whole row.
local function record(stream, row, version)
  redis.call('XADD', stream, '*', 'k', row, 'v', text(version))
end

-- Records which fields of a row were set, some at a time: a call takes no more arguments than Lua's stack has room for.
local function record_fields(stream, row, version, args, first, step)
  for start = first, #args, step * 1000 do
    local parts = {}
    for index = start, math.min(#args, start + step * 999), step do
      parts[#parts + 1] = 'f:' .. args[index]
      parts[#parts + 1] = ''
    end
    redis.call('XADD', stream, '*', 'k', row, 'v', text(version), unpack(parts))
  end
end

-- KEYS: hash, stream. ARGS: row key, site number, field, value, ... Sets some fields of a row, as a program's own write.
local function set(keys, args)
  local version = stamp(known_version(keys[1]), tonumber(args[2]))
  -- A write over a tombstone begins the row anew.
  local header = redis.call('HGET', keys[1], HEADER)
  if header and string.byte(header, 2) % 2 == 1 then
    redis.call('HDEL', keys[1], HEADER)
    redis.call('PERSIST', keys[1])
  end
  for index = 3, #args, 2 do
    redis.call('HSET', keys[1], args[index], args[index + 1])
  end
  redis.call('HSET', keys[1], VERSION, text(version))
  record_fields(keys[2], args[1], version, args, 3, 2)
  return text(version)
end

-- KEYS: hash, stream. ARGS: row key, site number, field, ... Stamps fields as they stand once more; returns '' for no row.
local function touch(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return '' end
  local version = stamp(known_version(keys[1]), tonumber(args[2]))
  redis.call('HSET', keys[1], VERSION, text(version))
  if #args > 2 then record_fields(keys[2], args[1], version, args, 3, 1) else record(keys[2], args[1], version) end
  return text(version)
end

-- KEYS: hash, stream. ARGS: row key, condition (newer | seen), version seen ('' for no row), version, header, expiry in epoch
-- seconds (0: never), record the change (1 | 0), field, value, ... Puts a whole row; returns '' or the version in its way.
local function put(keys, args)
  local known = known_version(keys[1])
  local exists = redis.call('EXISTS', keys[1]) == 1
  local version = tonumber(args[4])
  if args[2] == 'newer' then
    if known and known >= version then return text(known) end
  else
    local seen = ''
    if exists then seen = text(known or 0) end
    if seen ~= args[3] then return text(known or 0) end
  end
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], VERSION, args[4])
  if args[5] ~= '' then redis.call('HSET', keys[1], HEADER, args[5]) end
  for index = 8, #args, 2 do
    redis.call('HSET', keys[1], args[index], args[index + 1])
  end
  if args[6] ~= '0' then redis.call('EXPIREAT', keys[1], args[6]) end
  if args[7] == '1' then record(keys[2], args[1], version) end
  return ''
end

-- KEYS: hash, stream. ARGS: row key, version seen ('' for none), version. Gives a row a version; returns 1 if it did.
local function adopt(keys, args)
  local known = known_version(keys[1])
  local seen = ''
  if known then seen = text(known) end
  if redis.call('EXISTS', keys[1]) == 0 or seen ~= args[2] then return 0 end
  redis.call('HSET', keys[1], VERSION, args[3])
  record(keys[2], args[1], tonumber(args[3]))
  return 1
end

redis.register_function('lifeboat_set', set)
redis.register_function('lifeboat_touch', touch)
redis.register_function('lifeboat_put', put)
redis.register_function('lifeboat_adopt', adopt)
"""
