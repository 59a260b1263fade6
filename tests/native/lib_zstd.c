/* zstd, in one piece and as a stream. */
#include "fx.h"
#include <zstd.h>

EXPORT size_t zstd_pack(const void *in, size_t n, void *out, size_t room, int level) {
    return ZSTD_compress(out, room, in, n, level);
}
EXPORT size_t zstd_unpack(const void *in, size_t n, void *out, size_t room) {
    return ZSTD_decompress(out, room, in, n);
}
/* The descriptors of both buffers are memory of the caller's as well. */
EXPORT size_t zstd_stream(ZSTD_inBuffer *in, ZSTD_outBuffer *out) {
    ZSTD_CCtx *c = ZSTD_createCCtx();
    size_t left = ZSTD_compressStream2(c, out, in, ZSTD_e_end);
    ZSTD_freeCCtx(c);
    return left;
}
