/* Fields of bits: the same bytes as bits.py of functions/artifacts/codecs. Readers check before they read. */

#ifndef LIFEBOAT_BITS_H
#define LIFEBOAT_BITS_H

#include "base.h"

enum { NEAR_LOW_BITS = 2, MOST_ZEROS = 64 };

ALWAYS_INLINE unsigned highest_bit(uint64_t value) { return 63u - (unsigned)__builtin_clzll(value | 1); }

ALWAYS_INLINE uint64_t ones(int bits) { return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1; }

/* Fields into an output, least significant bit first. */
typedef struct {
    Output *output;
    uint64_t pending;
    unsigned filled; /* bits in `pending`, below 32 between fields */
} BitWriter;

ALWAYS_INLINE void put_short_field(BitWriter *writer, uint64_t value, unsigned length) {
    writer->pending |= value << writer->filled;
    writer->filled += length;
    if (writer->filled >= 32) {
        Output *output = writer->output;
        if (output->capacity - output->size >= 4 && !output->failed) {
            uint32_t word = (uint32_t)writer->pending;
            memcpy(output->data + output->size, &word, 4);
            output->size += 4;
        } else {
            output->failed = 1;
        }
        writer->pending >>= 32;
        writer->filled -= 32;
    }
}

/* Append a field of 0 to 64 bits; bits above its length must be zero. */
ALWAYS_INLINE void put_field(BitWriter *writer, uint64_t value, unsigned length) {
    if (length > 32) {
        put_short_field(writer, value & 0xFFFFFFFFu, 32);
        value >>= 32;
        length -= 32;
    }
    put_short_field(writer, value, length);
}

/* Append a number near a prediction. */
static void put_near(BitWriter *writer, int number, int prediction) {
    int difference = prediction - number;
    if (!difference) {
        put_field(writer, 1, 1);
        return;
    }
    unsigned rest = (unsigned)(difference > 0 ? 2 * difference - 2 : -2 * difference - 1), zeros = rest >> NEAR_LOW_BITS;
    put_field(writer, (uint64_t)(2 * (rest & (unsigned)ones(NEAR_LOW_BITS)) + 1) << (zeros + 1), zeros + 2 + NEAR_LOW_BITS);
}

static void finish_fields(BitWriter *writer) {
    uint32_t word = (uint32_t)writer->pending;
    put(writer->output, &word, (writer->filled + 7) / 8);
    writer->pending = 0;
    writer->filled = 0;
}

typedef struct {
    const uint8_t *data;
    uint64_t position, end; /* in bits */
} BitReader;

/* Read a field of 0 to 56 bits that lies before the end. */
ALWAYS_INLINE uint64_t get_short_field(BitReader *reader, unsigned length) {
    size_t byte = (size_t)(reader->position >> 3), bytes = (size_t)(reader->end >> 3);
    uint64_t window = 0;
    if (byte + 8 <= bytes) {
        memcpy(&window, reader->data + byte, 8);
    } else {
        for (size_t at = byte; at < bytes; at++) window |= (uint64_t)reader->data[at] << (8 * (at - byte));
    }
    window >>= reader->position & 7;
    reader->position += length;
    return window & ((UINT64_C(1) << length) - 1);
}

/* Read a field of 0 to 64 bits; false if the data ends before it. */
ALWAYS_INLINE int get_field(BitReader *reader, unsigned length, uint64_t *value) {
    if (length > reader->end - reader->position) return 0;
    uint64_t low = 0;
    unsigned done = 0;
    if (length > 32) {
        low = get_short_field(reader, 32);
        done = 32;
    }
    *value = low | (get_short_field(reader, length - done) << done);
    return 1;
}

/* Read a number near a prediction, which is 0 to `most`. */
static int get_near(BitReader *reader, int prediction, int most, int *number) {
    uint64_t field;
    *number = prediction;
    if (!get_field(reader, 1, &field)) return DAMAGED;
    if (!field) {
        int zeros = 0;
        for (;;) {
            if (!get_field(reader, 1, &field)) return DAMAGED;
            if (field) break;
            if (++zeros > MOST_ZEROS) return DAMAGED;
        }
        if (!get_field(reader, NEAR_LOW_BITS, &field)) return DAMAGED;
        int rest = (zeros << NEAR_LOW_BITS) + (int)field;
        *number += rest & 1 ? rest / 2 + 1 : -(rest / 2) - 1;
    }
    return *number >= 0 && *number <= most ? 0 : DAMAGED;
}

/* True if only zeros follow in the byte that was begun. */
static int rest_is_zero(const BitReader *reader) {
    unsigned used = (unsigned)(reader->position & 7);
    return !used || !(reader->data[reader->position >> 3] >> used);
}

#endif
