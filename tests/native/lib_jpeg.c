/* libjpeg (turbo), from memory to memory. */
#include "fx.h"
#include <stdio.h>
#include <jpeglib.h>

/* w * h pixels of 3 bytes; *len is the room in `out`, then the length of the image. */
EXPORT int jpeg_pack(const uint8_t *pixels, unsigned w, unsigned h, uint8_t *out, uint64_t *len) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr error;
    unsigned char *at = out;
    unsigned long size = *len;
    c.err = jpeg_std_error(&error);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &at, &size);
    c.image_width = w;
    c.image_height = h;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < h) {
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)c.next_scanline * w * 3);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    *len = size;
    return at == out;
}
EXPORT int jpeg_unpack(const uint8_t *in, uint64_t len, uint8_t *pixels) {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr error;
    d.err = jpeg_std_error(&error);
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, in, len);
    jpeg_read_header(&d, TRUE);
    d.out_color_space = JCS_RGB;
    jpeg_start_decompress(&d);
    while (d.output_scanline < d.output_height) {
        JSAMPROW row = pixels + (size_t)d.output_scanline * d.output_width * 3;
        jpeg_read_scanlines(&d, &row, 1);
    }
    jpeg_finish_decompress(&d);
    jpeg_destroy_decompress(&d);
    return 1;
}
