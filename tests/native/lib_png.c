/* libpng's simplified interface, from memory to memory. */
#include "fx.h"
#include <png.h>
#include <string.h>

/* w * h pixels of 4 bytes; *len is the room in `out`, then the length of the image. */
EXPORT int png_pack(const uint8_t *pixels, unsigned w, unsigned h, uint8_t *out, uint64_t *len) {
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = w;
    image.height = h;
    image.format = PNG_FORMAT_RGBA;
    png_alloc_size_t size = *len;
    int ok = png_image_write_to_memory(&image, out, &size, 0, pixels, 0, NULL);
    *len = size;
    return ok;
}
EXPORT int png_unpack(const uint8_t *in, uint64_t len, uint8_t *pixels) {
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_memory(&image, in, len)) return 0;
    image.format = PNG_FORMAT_RGBA;
    return png_image_finish_read(&image, NULL, pixels, 0, NULL);
}
