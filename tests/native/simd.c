/* SSE, AVX and AVX-512. The SSE part runs anywhere; the tests check the CPU before the rest. */
#include "fx.h"
#include <immintrin.h>

#define AVX __attribute__((target("avx")))
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

EXPORT void sse_copy16(void *d, const void *s) {
    __asm__ volatile("movups (%1), %%xmm0\n\tmovups %%xmm0, (%0)" : : "r"(d), "r"(s) : "xmm0", "memory");
}
EXPORT void sse_copy16_aligned(void *d, const void *s) {
    __asm__ volatile("movaps (%1), %%xmm0\n\tmovaps %%xmm0, (%0)"
                     : : "r"(fx_align(d, 16)), "r"(fx_align(s, 16)) : "xmm0", "memory");
}
EXPORT void sse_movq_movd(void *p) {
    __asm__ volatile("movq (%0), %%xmm0\n\tmovd 8(%0), %%xmm1\n\tmovq %%xmm0, 16(%0)\n\tmovd %%xmm1, 24(%0)"
                     : : "r"(p) : "xmm0", "xmm1", "memory");
}
/* Halves of a register, and a scalar in the low lane. */
EXPORT void sse_halves(void *p) {
    __asm__ volatile("movlps (%0), %%xmm0\n\tmovhps 8(%0), %%xmm0\n\tmovhps %%xmm0, 16(%0)\n\tmovss %%xmm0, 24(%0)"
                     : : "r"(p) : "xmm0", "memory");
}
EXPORT double sse_arith(const void *p) {
    double v;
    __asm__ volatile("movsd (%1), %%xmm0\n\taddsd 8(%1), %%xmm0\n\tmovsd %%xmm0, %0"
                     : "=m"(v) : "r"(p) : "xmm0", "memory");
    return v;
}
EXPORT int sse_insert_extract(void *p) {
    int v;
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpinsrw $3, (%1), %%xmm0\n\tpextrw $3, %%xmm0, %0"
                     : "=r"(v) : "r"(p) : "xmm0", "memory");
    return v;
}
EXPORT void sse_movntdq(void *p) {
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tmovntdq %%xmm0, (%0)\n\tsfence"
                     : : "r"(fx_align(p, 16)) : "xmm0", "memory");
}
/* maskmovdqu: bytes 0 and 5 of 16, at the implicit rdi. */
EXPORT void sse_maskmovdqu(void *p) {
    static const uint8_t mask[16] = {0x80, 0, 0, 0, 0, 0x80};
    __asm__ volatile("movdqu (%1), %%xmm1\n\tpcmpeqd %%xmm0, %%xmm0\n\tmaskmovdqu %%xmm1, %%xmm0"
                     : : "D"(p), "r"(mask) : "xmm0", "xmm1", "memory");
}

EXPORT AVX void avx_copy32(void *d, const void *s) {
    __asm__ volatile("vmovups (%1), %%ymm0\n\tvmovups %%ymm0, (%0)\n\tvzeroupper"
                     : : "r"(d), "r"(s) : "xmm0", "memory");
}
EXPORT AVX float avx_broadcast(const void *p) {
    float v;
    __asm__ volatile("vbroadcastss (%1), %%ymm0\n\tvmovss %%xmm0, %0\n\tvzeroupper"
                     : "=m"(v) : "r"(p) : "xmm0", "memory");
    return v;
}
/* Lanes 0 and 2 of 8 floats are stored. */
EXPORT AVX void avx_maskstore(void *p) {
    static const int32_t mask[8] = {-1, 0, -1};
    __asm__ volatile("vmovdqu (%1), %%ymm1\n\tvxorps %%ymm0, %%ymm0, %%ymm0\n\t"
                     "vmaskmovps %%ymm0, %%ymm1, (%0)\n\tvzeroupper"
                     : : "r"(p), "r"(mask) : "xmm0", "xmm1", "memory");
}
/* Elements 3, 1, 0, 2 of an int array are gathered and added up. */
EXPORT AVX2 int avx2_gather(const void *p) {
    __m128i v = _mm_i32gather_epi32((const int *)p, _mm_setr_epi32(3, 1, 0, 2), 4);
    v = _mm_hadd_epi32(v, v);
    v = _mm_hadd_epi32(v, v);
    return _mm_cvtsi128_si32(v);
}
/* One lane far past the buffer's end. */
EXPORT AVX2 int avx2_gather_far(const void *p) {
    __m128i v = _mm_i32gather_epi32((const int *)p, _mm_setr_epi32(0, 1, 2, 3000), 4);
    return _mm_cvtsi128_si32(v);
}

EXPORT AVX512 void avx512_copy64(void *d, const void *s) {
    __asm__ volatile("vmovdqu64 (%1), %%zmm0\n\tvmovdqu64 %%zmm0, (%0)\n\tvzeroupper"
                     : : "r"(d), "r"(s) : "xmm0", "memory");
}
/* Loads and stores the dwords whose mask bit is set, and no other byte. */
EXPORT AVX512 void avx512_masked_copy(void *d, const void *s, uint32_t mask) {
    __asm__ volatile("kmovw %2, %%k1\n\tvmovdqu32 (%1), %%zmm0%{%%k1%}%{z%}\n\t"
                     "vmovdqu32 %%zmm0, (%0)%{%%k1%}\n\tvzeroupper"
                     : : "r"(d), "r"(s), "r"(mask) : "k1", "xmm0", "memory");
}
EXPORT AVX512 void avx512_masked_store_bytes(void *d, uint64_t mask) {
    __asm__ volatile("kmovq %1, %%k2\n\tvpxord %%zmm0, %%zmm0, %%zmm0\n\t"
                     "vmovdqu8 %%zmm0, (%0)%{%%k2%}\n\tvzeroupper"
                     : : "r"(d), "r"(mask) : "k2", "xmm0", "memory");
}
EXPORT AVX512 int avx512_broadcast(const void *p) {
    int v;
    __asm__ volatile("vpaddd (%1)%{1to16%}, %%zmm0, %%zmm0\n\tvpxord %%zmm0, %%zmm0, %%zmm0\n\t"
                     "vpaddd (%1)%{1to16%}, %%zmm0, %%zmm0\n\tvmovd %%xmm0, %0\n\tvzeroupper"
                     : "=r"(v) : "r"(p) : "xmm0", "memory");
    return v;
}
/* Elements 0, 2, 4, ... 14 of 8 qwords' worth of ints; scatter. */
EXPORT AVX512 void avx512_scatter(void *p) {
    __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    _mm512_mask_i32scatter_epi32(p, 0x000f, index, _mm512_set1_epi32(9), 4);
}
EXPORT AVX512 void avx512_compress_store(void *p) {
    __m512i v = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_mask_compressstoreu_epi32(p, 0x0111, v);
}
