-- Routing and capture of ModelInfer (Open Inference Protocol v2) inside Envoy.
--
-- Pure functions live in the global table `ciclo`, so that tests can call them; the two
-- envoy_on_* functions at the end are the only ones that touch Envoy. The routing table is
-- not here: it comes with the route (LuaPerRoute.filter_context, by RDS). All in one file,
-- because Envoy loads one.

local bit = require "bit"
local band, bxor = bit.band, bit.bxor
local rshift, lshift, tobit = bit.rshift, bit.lshift, bit.tobit
local byte, char, find, format = string.byte, string.char, string.find, string.format
local gsub, match, sub = string.gsub, string.match, string.sub
local floor = math.floor

local M = {}
ciclo = M

-- gRPC status codes
local INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, INTERNAL = 3, 5, 12, 13

local LONGEST_KEY = 256          -- bytes of x-ciclo-key
local DAY = 86400000000          -- microseconds: how far ahead of the clock an event time may lie
local TABLES_KEPT = 8            -- generations in memory: requests in flight may hold an old one

-- ------------------------------------------------------------------------- protobuf

-- The varint at s[i], which may not reach past e: its value (exact below 2^53) and the
-- index after it; nil if it is malformed.
local function varint(s, i, e)
  if i > e then return nil end
  local b = byte(s, i)
  if b < 128 then return b, i + 1 end
  local value, scale = b - 128, 128
  for _ = 1, 9 do
    i = i + 1
    if i > e then return nil end
    b = byte(s, i)
    if b < 128 then return value + b * scale, i + 1 end
    value = value + (b - 128) * scale
    scale = scale * 128
  end
  return nil
end

function M.encode_varint(n)
  local out = ""
  while n >= 128 do
    out = out .. char(n % 128 + 128)
    n = floor(n / 128)
  end
  return out .. char(n)
end

-- Skips the value of one field: the index after it; nil if it is malformed.
local function skip(s, i, e, wire, field, depth)
  if wire == 0 then
    local _, j = varint(s, i, e)
    return j
  elseif wire == 1 then
    i = i + 8
  elseif wire == 5 then
    i = i + 4
  elseif wire == 2 then
    local n, j = varint(s, i, e)
    if not n then return nil end
    i = j + n
  elseif wire == 3 then -- a group: up to its matching end
    if depth > 64 then return nil end
    while true do
      local tag, j = varint(s, i, e)
      if not tag or tag >= 4294967296 then return nil end
      local w, f = tag % 8, floor(tag / 8)
      if f == 0 then return nil end
      if w == 4 then
        if f ~= field then return nil end
        return j
      end
      i = skip(s, j, e, w, f, depth + 1)
      if not i then return nil end
    end
  else
    return nil
  end
  if i - 1 > e then return nil end
  return i
end

-- The ModelInferRequest in s[i..e]: its model name and version, "" where absent; or nil and
-- the reason. Accepts what protobuf accepts; of a repeated field the last one counts.
function M.parse(s, i, e)
  local name, version
  while i <= e do
    local tag, j = varint(s, i, e)
    if not tag or tag >= 4294967296 then return nil, "bad tag" end
    local wire, field = tag % 8, floor(tag / 8)
    if field == 0 then return nil, "field number 0" end
    if wire == 2 then
      local n, k = varint(s, j, e)
      if not n or k + n - 1 > e then return nil, "truncated field" end
      if field == 1 then name = sub(s, k, k + n - 1)
      elseif field == 2 then version = sub(s, k, k + n - 1) end
      i = k + n
    else
      i = skip(s, j, e, wire, field, 0)
      if not i then return nil, "bad field" end
    end
  end
  return name or "", version or ""
end

-- The length of the one message in a unary call's body; or nil, status code and reason.
function M.unframe(s)
  local n = #s
  if n < 5 then return nil, INVALID_ARGUMENT, "truncated gRPC frame" end
  local flag, a, b, c, d = byte(s, 1, 5)
  if flag == 1 then return nil, UNIMPLEMENTED, "compressed messages are not supported" end
  if flag ~= 0 then return nil, INVALID_ARGUMENT, "bad gRPC frame flag" end
  local length = a * 16777216 + b * 65536 + c * 256 + d
  if n - 5 < length then return nil, INVALID_ARGUMENT, "truncated gRPC message" end
  if n - 5 > length then
    return nil, INVALID_ARGUMENT, "more than one gRPC message in a unary call"
  end
  return length
end

local function frame_header(n)
  return char(0, floor(n / 16777216) % 256, floor(n / 65536) % 256, floor(n / 256) % 256, n % 256)
end

-- ------------------------------------------------------------------------- choice

-- FNV-1a, 32 bits, then murmur3's finaliser; exact in doubles.
local function multiply32(a, b)
  local ah, al = rshift(a, 16), band(a, 65535)
  local bh, bl = rshift(b, 16), band(b, 65535)
  return tobit(al * bl + lshift(band(ah * bl + al * bh, 65535), 16))
end

function M.hash(s)
  local h = tobit(2166136261)
  for i = 1, #s do h = multiply32(bxor(h, byte(s, i)), 16777619) end
  h = multiply32(bxor(h, rshift(h, 16)), tobit(0x85ebca6b))
  h = multiply32(bxor(h, rshift(h, 13)), tobit(0xc2b2ae35))
  h = bxor(h, rshift(h, 16))
  return h % 4294967296
end

-- The version that a key falls to, by weight; nil if none has any. A key keeps its place on
-- [0, total): with two versions in fixed order, a growing weight moves keys one way only.
function M.pick(versions, key)
  local total = 0
  for i = 1, #versions do total = total + versions[i].weight end
  if total <= 0 then return nil end
  local x = M.hash(key) / 4294967296 * total
  local last
  for i = 1, #versions do
    if versions[i].weight > 0 then
      last = versions[i]
      x = x - last.weight
      if x < 0 then return last end
    end
  end
  return last
end

-- ------------------------------------------------------------------------- metadata

local function days_from_civil(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local leaps = floor(year / 4) - floor(year / 100) + floor(year / 400)
  return 365 * year + leaps + floor((153 * (month - 3) + 2) / 5) + day - 719469
end

local MONTH_DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function month_days(year, month)
  if month == 2 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) then return 29 end
  return MONTH_DAYS[month]
end

-- Seconds east of UTC of `Z`, `+hh:mm` or `-hh:mm`; nil for anything else.
local function zone_seconds(text)
  if text == "Z" or text == "z" then return 0 end
  local sign, hours, minutes = match(text, "^([+-])(%d%d):(%d%d)$")
  hours, minutes = tonumber(hours), tonumber(minutes)
  if not hours or hours > 23 or minutes > 59 then return nil end
  local seconds = hours * 3600 + minutes * 60
  return sign == "-" and -seconds or seconds
end

-- Microseconds since the epoch of an RFC 3339 time; nil if it is none. Digits past the sixth
-- are cut off.
local function rfc3339(text)
  local year, month, day, hour, minute, second, rest =
    match(text, "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.+)$")
  if not year then return nil end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if month < 1 or month > 12 or day < 1 or day > month_days(year, month) then return nil end
  if hour > 23 or minute > 59 or second > 59 then return nil end
  local fraction, zone = match(rest, "^%.(%d+)(.+)$")
  local east = zone_seconds(zone or rest)
  if not east then return nil end
  local micros = fraction and tonumber(sub(fraction .. "000000", 1, 6)) or 0
  local days = days_from_civil(year, month, day)
  return (days * 86400 + hour * 3600 + minute * 60 + second - east) * 1000000 + micros
end

local EXPECTED = ": expected microseconds since 1970, at most one day ahead of the clock"

-- What x-ciclo-event-time says, as digits; or nil and the reason. `now`: microseconds.
function M.event_time(text, now)
  local micros
  if match(text, "^%d+$") then micros = #text <= 19 and tonumber(text) or nil
  else micros = rfc3339(text) end
  if not micros then return nil, "is neither an RFC 3339 time nor whole microseconds since 1970" end
  if micros < 0 then return nil, "is before 1970" .. EXPECTED end
  if micros > now + DAY then
    return nil, format("is %.0f days ahead", floor((micros - now) / DAY)) .. EXPECTED
  end
  return format("%.0f", micros)
end

-- ------------------------------------------------------------------------- decision

local function escape(c) return format("%%%02X", byte(c)) end

-- Text that is safe in a header and in a line of columns: never empty, never "-" alone.
function M.safe(s)
  if s == "" then return "-" end
  if s == "-" then return "%2D" end
  if #s > 256 then s = sub(s, 1, 256) end
  if not find(s, "[^%w%._:/@%-]") then return s end
  return (gsub(s, "[^%w%._:/@%-]", escape))
end

local function refusal(code, reason) return { code = code, reason = reason } end

-- What becomes of one call.
--   s: the body as received    id: minted by Envoy    models: see M.load
--   key, event_time: the caller's metadata, nil where absent    now: microseconds, wall time
-- Returns a table: code and reason of a refusal; or id, model, version, variant, key,
-- event_time, and body where it must be replaced.
function M.decide(s, id, key, event_time, models, now)
  local length, code, why = M.unframe(s)
  if not length then return refusal(code, why) end
  local name, version = M.parse(s, 6, 5 + length)
  if not name then return refusal(INVALID_ARGUMENT, "malformed ModelInferRequest: " .. version) end
  if name == "" then return refusal(INVALID_ARGUMENT, "model_name is missing") end
  if key and #key > LONGEST_KEY then
    return refusal(INVALID_ARGUMENT, "x-ciclo-key has more than " .. LONGEST_KEY .. " bytes")
  end
  local time = "-"
  if event_time then
    time, why = M.event_time(event_time, now)
    if not time then return refusal(INVALID_ARGUMENT, "x-ciclo-event-time " .. why) end
  end
  local model = models[name]
  if not model then return refusal(NOT_FOUND, "no route for model " .. M.safe(name)) end
  local variant, body
  if version == "" then
    local chosen = M.pick(model.versions, model.salt .. (key or id))
    if not chosen then return refusal(NOT_FOUND, "no version of model " .. M.safe(name)) end
    version, variant = chosen.version, chosen.variant
    -- Field 2 again, at the end: of a repeated field the last one counts.
    local extra = char(18) .. M.encode_varint(#version) .. version
    body = frame_header(length + #extra) .. sub(s, 6) .. extra
  elseif model.known[version] then
    variant = "pinned" -- not ours to choose, so no evidence in a comparison of variants
  else
    return refusal(NOT_FOUND, "no route for version " .. M.safe(version) .. " of model "
      .. M.safe(name))
  end
  return { body = body, id = M.safe(id), model = M.safe(name), version = M.safe(version),
    variant = M.safe(variant), key = M.safe(key or ""), event_time = time }
end

-- The routing table from what a filter_context holds: model name -> versions, known, salt.
function M.load(raw)
  local models = {}
  for name, model in pairs(raw or {}) do
    local versions, known = {}, {}
    for i, entry in ipairs(model.versions or {}) do
      local version = tostring(entry.version)
      versions[i] = { version = version, weight = tonumber(entry.weight) or 0,
        variant = entry.variant or "champion" }
      known[version] = true
    end
    models[name] = { versions = versions, known = known, salt = (model.salt or name) .. "\0" }
  end
  return models
end

-- ------------------------------------------------------------------------- Envoy

local tables, order = {}, {} -- generation -> what it holds; generations, oldest first

-- Converting a filter_context costs far more than a request: once a generation and worker.
local function config(handle)
  local context = handle:filterContext()
  local generation = context:get("generation") or ""
  local known = tables[generation]
  if known then return known end
  known = { models = M.load(context:get("models")), capture = context:get("capture") == "on",
    max = context:get("capture_max_bytes") or 262144 }
  tables[generation] = known
  order[#order + 1] = generation
  if #order > TABLES_KEPT then tables[table.remove(order, 1)] = nil end
  return known
end

local function refuse(handle, code, reason)
  handle:respond({ [":status"] = "200", ["content-type"] = "application/grpc",
    ["grpc-status"] = tostring(code), ["grpc-message"] = (gsub(M.safe(reason), "%%20", " ")) }, nil)
end

local function on_request(handle)
  local known = config(handle)
  local body = handle:body(true) -- yields: whatever was fetched before is dead after
  local headers = handle:headers()
  local n = body:length()
  local s = n > 0 and body:getBytes(0, n) or ""
  local call = M.decide(s, headers:get("x-request-id"), headers:get("x-ciclo-key"),
    headers:get("x-ciclo-event-time"), known.models, tonumber(handle:timestamp()) * 1000)
  if call.code then return refuse(handle, call.code, call.reason) end
  if call.body then body:setBytes(call.body) end
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("ciclo", "served", { id = call.id, model = call.model, version = call.version,
    variant = call.variant, key = call.key, event_time = call.event_time })
  if known.capture then
    -- Metadata takes C strings, which a zero byte would cut: hence base64.
    metadata:set("ciclo.payload", "request", n <= known.max and handle:base64Escape(s)
      or "size:" .. n)
  end
end

-- Envoy lets a call through, unrouted, when its script fails: refuse it instead.
function envoy_on_request(handle)
  local ok, why = pcall(on_request, handle) -- LuaJIT: body() may yield inside
  if not ok then
    handle:logErr("ciclo: " .. tostring(why))
    refuse(handle, INTERNAL, "gateway error")
  end
end

function envoy_on_response(handle)
  local known = config(handle)
  if not known.capture then return end
  local parts, n = {}, 0
  for chunk in handle:bodyChunks() do
    local k = chunk:length()
    n = n + k
    if n <= known.max and k > 0 then parts[#parts + 1] = chunk:getBytes(0, k) end
  end
  if n == 0 then return end
  handle:streamInfo():dynamicMetadata():set("ciclo.payload", "response",
    n <= known.max and handle:base64Escape(table.concat(parts)) or "size:" .. n)
end
