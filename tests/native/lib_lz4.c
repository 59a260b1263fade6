/* lz4's blocks: the room of the output is the caller's. */
#include "fx.h"
#include <lz4.h>
#include <lz4hc.h>

EXPORT int lz4_pack(const char *in, int n, char *out, int room) {
    return LZ4_compress_default(in, out, n, room);
}
EXPORT int lz4_pack_hc(const char *in, int n, char *out, int room) {
    return LZ4_compress_HC(in, out, n, room, 9);
}
EXPORT int lz4_unpack(const char *in, int n, char *out, int room) {
    return LZ4_decompress_safe(in, out, n, room);
}
