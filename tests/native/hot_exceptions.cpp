// Exceptions that leave hot loops, through frames whose destructors touch the buffer too.
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default"), noinline, used))
#define APART __attribute__((noinline))

typedef volatile uint32_t word;

namespace {

struct Guard {
    word *p;
    explicit Guard(word *at) : p(at) { *p += 1; }
    ~Guard() { *p += 16; }
};
struct Thrown {
    uint32_t value;
};

APART uint32_t inner(word *p, uint32_t i) {
    Guard guard(p + 1);
    for (uint32_t k = 0; k < 4; k++) {
        p[8 + k] += i;
        if (i % 3 == 0 && k == 2) throw Thrown{i};
        if (i % 7 == 0 && k == 3) throw i;
    }
    return p[8];
}
APART uint32_t middle(word *p, uint32_t i) {
    Guard guard(p + 2);
    uint32_t sum = inner(p, i);
    p[12] ^= sum;
    return sum;
}
APART uint32_t outer(word *p, uint32_t i) {
    Guard one(p + 3), two(p + 4);
    return middle(p, i) + middle(p, i + 1);
}
APART void again(word *p, uint32_t i) {
    try {
        Guard guard(p + 5);
        outer(p, i);
    } catch (const Thrown &) {
        p[6] += 1;
        throw;
    } catch (uint32_t value) {
        p[7] += value;
        throw Thrown{value + 1};
    }
}
APART void throws(word *p, uint32_t i) {
    p[1] += i;
    if (i & 1) throw Thrown{i};
    p[2] += i;
}

}  // namespace

// Thrown three frames below the loop.
EXPORT uint32_t exception_frames(uint32_t *buf, uint32_t n) {
    word *p = buf;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        try {
            sum += outer(p, i);
        } catch (const Thrown &thrown) {
            sum = sum * 3 + thrown.value;
            p[0] += 1;
        } catch (uint32_t value) {
            sum ^= value;
        }
    }
    return sum;
}

// Caught, changed and thrown on.
EXPORT uint32_t exception_rethrown(uint32_t *buf, uint32_t n) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        try {
            again(buf, i);
        } catch (const Thrown &thrown) {
            sum = sum * 5 + thrown.value;
        }
    }
    return sum;
}

// Out of a callee, over and over.
EXPORT uint32_t exception_callee(uint32_t *buf, uint32_t n) {
    word *p = buf;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        try {
            p[0] += 1;
            throws(p, i);
        } catch (const Thrown &thrown) {
            sum += thrown.value;
            p[3] += 1;
        }
    }
    return sum;
}

// Out of the loop itself, so that the loop is left for good.
EXPORT uint32_t exception_leaves(uint32_t *buf, uint32_t n) {
    word *p = buf;
    try {
        for (uint32_t i = 0;; i++) {
            p[i % 8] += i;
            if (i == n) throw Thrown{i};
        }
    } catch (const Thrown &thrown) {
        Guard guard(p + 9);
        return thrown.value + p[0];
    }
}
