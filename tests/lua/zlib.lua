-- A compression library: round trips, checksums and streams.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
const char *zlibVersion(void);
unsigned long compressBound(unsigned long sourceLen);
int compress(uint8_t *dest, unsigned long *destLen, const uint8_t *source, unsigned long sourceLen);
int compress2(uint8_t *dest, unsigned long *destLen, const uint8_t *source, unsigned long sourceLen, int level);
int uncompress(uint8_t *dest, unsigned long *destLen, const uint8_t *source, unsigned long sourceLen);
unsigned long crc32(unsigned long crc, const uint8_t *buf, unsigned int len);
unsigned long adler32(unsigned long adler, const uint8_t *buf, unsigned int len);
const char *zError(int);

typedef struct zlb_stream {
  const uint8_t *next_in; unsigned avail_in; unsigned long total_in;
  uint8_t *next_out; unsigned avail_out; unsigned long total_out;
  const char *msg; void *state;
  void *(*zalloc)(void *, unsigned, unsigned); void (*zfree)(void *, void *); void *opaque;
  int data_type; unsigned long adler; unsigned long reserved;
} zlb_stream;
int deflateInit_(zlb_stream *, int level, const char *version, int stream_size);
int deflate(zlb_stream *, int flush);
int deflateEnd(zlb_stream *);
int inflateInit_(zlb_stream *, const char *version, int stream_size);
int inflate(zlb_stream *, int flush);
int inflateEnd(zlb_stream *);

enum { ZLB_OK = 0, ZLB_STREAM_END = 1, ZLB_FINISH = 4, ZLB_DATA_ERROR = -3, ZLB_BUF_ERROR = -5 };
]]

local C = ffi.C
local z = ffi.load("z")

local function compress(text, level)
  local bound = z.compressBound(#text)
  local buffer = ffi.new("uint8_t[?]", bound)
  local length = ffi.new("unsigned long[1]", bound)
  local result
  if level then
    result = z.compress2(buffer, length, text, #text, level)
  else
    result = z.compress(buffer, length, text, #text)
  end
  assert(result == C.ZLB_OK)
  return ffi.string(buffer, length[0])
end

local function uncompress(packed, size)
  local buffer = ffi.new("uint8_t[?]", size)
  local length = ffi.new("unsigned long[1]", size)
  local result = z.uncompress(buffer, length, packed, #packed)
  if result ~= C.ZLB_OK then return nil, result end
  return ffi.string(buffer, length[0])
end

local sample = ("pack my box with five dozen liquor jugs "):rep(50)

test("a text survives a round trip", function()
  test.equal(uncompress(compress(sample), #sample), sample)
end)

test("a repetitive text becomes much shorter", function()
  test.equal(#compress(sample) < #sample / 10, true)
end)

test("an empty text survives a round trip", function()
  test.equal(uncompress(compress(""), 1), "")
end)

test("every byte value survives a round trip", function()
  local bytes = {}
  for i = 0, 255 do bytes[i + 1] = string.char(i) end
  local text = table.concat(bytes)
  test.equal(uncompress(compress(text), 256), text)
end)

test("every level survives a round trip", function()
  for level = 0, 9 do
    test.equal(uncompress(compress(sample, level), #sample), sample)
  end
end)

test("the bound is a 64-bit integer that sizes an array", function()
  local bound = z.compressBound(1000)
  test.equal(type(bound), "cdata")
  test.equal(ffi.sizeof(ffi.new("uint8_t[?]", bound)) >= 1000, true)
end)

test("a buffer that is too short is told by the result", function()
  local text, result = uncompress(compress(sample), 10)
  test.equal(text, nil)
  test.equal(result, C.ZLB_BUF_ERROR)
end)

test("damaged data is told by the result", function()
  local packed = compress(sample)
  local damaged = packed:sub(1, 1) .. "\255" .. packed:sub(3)
  local text, result = uncompress(damaged, #sample)
  test.equal(text, nil)
  test.equal(result, C.ZLB_DATA_ERROR)
end)

test("a result is described by a C string", function()
  test.equal(ffi.string(z.zError(C.ZLB_DATA_ERROR)), "data error")
end)

test("a CRC is computed over a string", function()
  test.equal(tonumber(z.crc32(0, "123456789", 9)), 0xcbf43926)
end)

test("a CRC is computed in pieces", function()
  local crc = z.crc32(0, nil, 0)
  for piece in ("123456789"):gmatch("..?") do crc = z.crc32(crc, piece, #piece) end
  test.equal(tonumber(crc), 0xcbf43926)
end)

test("an Adler checksum is computed over an array", function()
  local b = ffi.new("uint8_t[9]", "Wikipedia")
  test.equal(tonumber(z.adler32(1, b, 9)), 0x11e60398)
end)

test("a stream compresses and another restores its output", function()
  local source = ffi.new("uint8_t[?]", #sample)
  ffi.copy(source, sample, #sample)
  local packed = ffi.new("uint8_t[?]", #sample)
  local out = ffi.new("zlb_stream")
  local version = z.zlibVersion()
  test.equal(z.deflateInit_(out, 6, version, ffi.sizeof("zlb_stream")), C.ZLB_OK)
  out.next_in, out.avail_in = source, #sample
  out.next_out, out.avail_out = packed, #sample
  test.equal(z.deflate(out, C.ZLB_FINISH), C.ZLB_STREAM_END)
  local size = tonumber(out.total_out)
  test.equal(tonumber(out.total_in), #sample)
  test.equal(z.deflateEnd(out), C.ZLB_OK)

  local restored = ffi.new("uint8_t[?]", #sample)
  local back = ffi.new("zlb_stream")
  test.equal(z.inflateInit_(back, version, ffi.sizeof("zlb_stream")), C.ZLB_OK)
  back.next_in, back.avail_in = packed, size
  back.next_out, back.avail_out = restored, #sample
  test.equal(z.inflate(back, C.ZLB_FINISH), C.ZLB_STREAM_END)
  test.equal(back.avail_out, 0)
  test.equal(z.inflateEnd(back), C.ZLB_OK)
  test.equal(ffi.string(restored, #sample), sample)
end)

test("a stream moves its pointers through the buffers", function()
  local source = ffi.new("uint8_t[100]")
  local packed = ffi.new("uint8_t[200]")
  local out = ffi.new("zlb_stream")
  test.equal(z.deflateInit_(out, 9, z.zlibVersion(), ffi.sizeof(out)), C.ZLB_OK)
  out.next_in, out.avail_in = source, 100
  out.next_out, out.avail_out = packed, 200
  test.equal(z.deflate(out, C.ZLB_FINISH), C.ZLB_STREAM_END)
  test.equal(out.next_in - source, 100)
  test.equal(out.next_out - packed, 200 - out.avail_out)
  test.equal(z.deflateEnd(out), C.ZLB_OK)
end)

test.done()
