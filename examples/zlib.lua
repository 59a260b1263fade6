-- A round trip through zlib: a whole text at once, and the same text through a
-- stream in small pieces. Needs nothing but `ffi`.

local ffi = require("ffi")

ffi.cdef [[
  const char *zlibVersion(void);
  unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len);

  unsigned long compressBound(unsigned long sourceLen);
  int compress2(unsigned char *dest, unsigned long *destLen,
                const unsigned char *source, unsigned long sourceLen, int level);
  int uncompress(unsigned char *dest, unsigned long *destLen,
                 const unsigned char *source, unsigned long sourceLen);

  typedef struct z_stream_s {
    const unsigned char *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    unsigned char *next_out;
    unsigned int avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *opaque, unsigned int items, unsigned int size);
    void (*zfree)(void *opaque, void *address);
    void *opaque;
    int data_type;
    unsigned long adler;
    unsigned long reserved;
  } z_stream;

  int deflateInit2_(z_stream *strm, int level, int method, int windowBits, int memLevel,
                    int strategy, const char *version, int stream_size);
  int deflate(z_stream *strm, int flush);
  int deflateEnd(z_stream *strm);
]]

local Z_OK, Z_STREAM_END = 0, 1
local Z_NO_FLUSH, Z_FINISH = 0, 4
local Z_DEFLATED, Z_DEFAULT_STRATEGY = 8, 0

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

local zlib = load("z", "libz.so.1")

local function check(what, code, wanted)
  if code ~= wanted then
    error(("%s returned %d instead of %d"):format(what, code, wanted), 2)
  end
end

local function checksum(text)
  return tonumber(zlib.crc32(0, text, #text))
end

local function compress(text, level)
  local bound = zlib.compressBound(#text)
  local buffer = ffi.new("unsigned char[?]", bound)
  local length = ffi.new("unsigned long[1]", bound)
  check("compress2", zlib.compress2(buffer, length, text, #text, level), Z_OK)
  return ffi.string(buffer, length[0])
end

local function uncompress(packed, size)
  local buffer = ffi.new("unsigned char[?]", size)
  local length = ffi.new("unsigned long[1]", size)
  check("uncompress", zlib.uncompress(buffer, length, packed, #packed), Z_OK)
  return ffi.string(buffer, length[0])
end

-- Hands zlib `window` bytes at a time, and takes as many from it. The stream has
-- pointers to both buffers, which does not keep them alive: the locals do.
local function deflate(text, window)
  local input = ffi.new("unsigned char[?]", window)
  local output = ffi.new("unsigned char[?]", window)
  local stream = ffi.new("z_stream")
  check("deflateInit2", zlib.deflateInit2_(stream, 9, Z_DEFLATED, 15, 8, Z_DEFAULT_STRATEGY,
    zlib.zlibVersion(), ffi.sizeof(stream)), Z_OK)

  local pieces, taken, calls, code = {}, 0, 0, Z_OK
  while code ~= Z_STREAM_END do
    if stream.avail_in == 0 and taken < #text then
      local piece = text:sub(taken + 1, taken + window)
      ffi.copy(input, piece, #piece)
      stream.next_in, stream.avail_in = input, #piece
      taken = taken + #piece
    end
    stream.next_out, stream.avail_out = output, window
    code = zlib.deflate(stream, taken < #text and Z_NO_FLUSH or Z_FINISH)
    calls = calls + 1
    if code ~= Z_STREAM_END then
      check("deflate", code, Z_OK)
    end
    pieces[#pieces + 1] = ffi.string(output, window - stream.avail_out)
  end
  check("deflateEnd", zlib.deflateEnd(stream), Z_OK)
  return table.concat(pieces), calls
end

local lines = {}
for i = 1, 40 do
  lines[i] = ("%d green bottles hanging on the wall\n"):format(41 - i)
end
local text = table.concat(lines)

print(("text        %d bytes, crc32 %08x"):format(#text, checksum(text)))

local packed = compress(text, 9)
print(("compress2   %d bytes"):format(#packed))

local back = uncompress(packed, #text)
assert(back == text, "the text came back changed")
print(("uncompress  %d bytes, crc32 %08x"):format(#back, checksum(back)))

local streamed, calls = deflate(text, 64)
assert(uncompress(streamed, #text) == text, "the text came back changed from the stream")
print(("deflate     %d bytes in %d calls, 64 bytes at a time"):format(#streamed, calls))
