/* Numbers and how their bits order: layouts.py and integers.py of functions/artifacts/codecs. */

#ifndef LIFEBOAT_LAYOUT_H
#define LIFEBOAT_LAYOUT_H

#include "bits.h"

enum { MOST_STRETCH = 512 };

/* Of tokens.py, by width: the K of its numbers, the first magnitude with extra bits, one more than the largest symbol. */
#define MANTISSA_IN_NUMBER(width) ((width) == 1 ? 7u : (width) == 2 ? 3u : (width) == 4 ? 2u : 0u)
#define FIRST_SHIFTED(width) (2u << MANTISSA_IN_NUMBER(width))
#define ALPHABET(width)                                                                                                  \
    ((width) == 1 ? 256u                                                                                                 \
                  : 2 * (((8u * (width) - 1 - MANTISSA_IN_NUMBER(width)) << MANTISSA_IN_NUMBER(width)) + FIRST_SHIFTED(width)) - 1)

enum { UNSIGNED = 0, SIGNED = 1, FLOAT = 2 };

typedef struct {
    int kind, width, exponent_bits, mantissa_bits;
    uint64_t exponent_mask;
} Layout;

/* How bits order: which are flipped always, which under a set sign, and whether residuals turn with the parent's sign. */
typedef struct {
    uint64_t top, flip, align;
} Order;

static Order order_of(const Layout *layout) {
    const Order order = {
        layout->kind == UNSIGNED ? 0 : UINT64_C(1) << (8 * layout->width - 1),
        layout->kind == FLOAT ? UINT64_MAX : 0,
        layout->kind == UNSIGNED ? 0 : UINT64_MAX,
    };
    return order;
}

ALWAYS_INLINE uint64_t load(const uint8_t *data, size_t at, int width) {
    uint64_t value = 0;
    memcpy(&value, data + at * (size_t)width, (size_t)width);
    return value;
}

ALWAYS_INLINE void store(uint8_t *data, size_t at, uint64_t value, int width) {
    memcpy(data + at * (size_t)width, &value, (size_t)width);
}

ALWAYS_INLINE unsigned exponent_of(uint64_t value, const Layout *layout) {
    return (unsigned)((value >> layout->mantissa_bits) & layout->exponent_mask);
}

#endif
