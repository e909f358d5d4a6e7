/* What all parts use: errors, outputs that measure, inputs that end. Everything here is static and works on memory that the
   caller has measured. */

#ifndef LIFEBOAT_BASE_H
#define LIFEBOAT_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX2__) || defined(__BMI2__)
#include <immintrin.h>
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the format is little-endian, and so is every machine that this kernel is built for"
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { OUT_OF_MEMORY = -1, NO_ROOM = -2, DAMAGED = -3, TOO_MANY_EXPONENTS = -4 };

enum {
    PRECISION_BITS = 12,
    TOTAL = 1 << PRECISION_BITS,
    LOWEST_STATE = 1 << 16,
    MOST_LANES = 64,
    MOST_LANES_LOG = 6,
    SYMBOLS_A_LANE_LOG = 12,
    WORDS_BEFORE = 8, /* what a vector of words takes where only some of them are kept */
    MOST_SYMBOLS = 256,
};

typedef struct {
    uint8_t *data;
    size_t size;     /* bytes written */
    size_t capacity; /* a writer that is full stays full: `failed` */
    int failed;
} Output;

typedef struct {
    const uint8_t *data;
    size_t size;
} Input;

static void put(Output *output, const void *data, size_t size) {
    if (output->failed || size > output->capacity - output->size) {
        output->failed = 1;
        return;
    }
    if (size) memcpy(output->data + output->size, data, size);
    output->size += size;
}

static void put_byte(Output *output, unsigned value) {
    uint8_t byte = (uint8_t)value;
    put(output, &byte, 1);
}

/* Return the first `size` bytes and go past them; null if there are fewer. */
static const uint8_t *take(Input *input, size_t size) {
    if (size > input->size) return NULL;
    const uint8_t *found = input->data;
    input->data += size;
    input->size -= size;
    return found;
}

#endif
