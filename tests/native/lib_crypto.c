/* libcrypto, by its EVP interface and by the low-level one. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "fx.h"
#include <openssl/aes.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

EXPORT int evp_sha256(const uint8_t *in, size_t n, uint8_t *out) {
    unsigned len = 0;
    return EVP_Digest(in, n, out, &len, EVP_sha256(), NULL) ? (int)len : -1;
}
/* Fed in pieces, so that the part block is kept in between. */
EXPORT int sha256_pieces(const uint8_t *in, size_t n, size_t piece, uint8_t *out) {
    SHA256_CTX c;
    SHA256_Init(&c);
    for (size_t i = 0; i < n; i += piece) SHA256_Update(&c, in + i, n - i < piece ? n - i : piece);
    return SHA256_Final(out, &c);
}
static const EVP_CIPHER *cipher(int mode) {
    switch (mode) {
    case 0: return EVP_aes_128_cbc();
    case 1: return EVP_aes_128_ctr();
    case 2: return EVP_aes_256_ecb();
    default: return EVP_aes_128_gcm();
    }
}
/* The length of what was written, or -1. */
EXPORT int evp_aes(int mode, int encrypt, const uint8_t *key, const uint8_t *iv, const uint8_t *in,
                   int n, uint8_t *out, uint8_t *tag) {
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int first = 0, last = 0;
    int ok = EVP_CipherInit_ex(c, cipher(mode), NULL, key, iv, encrypt);
    if (ok && mode == 3 && !encrypt) ok = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, 16, tag);
    ok = ok && EVP_CipherUpdate(c, out, &first, in, n) && EVP_CipherFinal_ex(c, out + first, &last);
    if (ok && mode == 3 && encrypt) ok = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, tag);
    EVP_CIPHER_CTX_free(c);
    return ok ? first + last : -1;
}
/* The key schedule is memory of the caller's, too. */
EXPORT int low_aes(AES_KEY *schedule, const uint8_t *key, uint8_t *iv, const uint8_t *in, size_t n,
                   uint8_t *out, int encrypt) {
    int bad = encrypt ? AES_set_encrypt_key(key, 128, schedule)
                      : AES_set_decrypt_key(key, 128, schedule);
    if (bad) return bad;
    AES_cbc_encrypt(in, out, n, schedule, iv, encrypt);
    return 0;
}
