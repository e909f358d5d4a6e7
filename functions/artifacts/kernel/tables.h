/* Distributions: the same bytes as the tables of ans.py of functions/artifacts/codecs. */

#ifndef LIFEBOAT_TABLES_H
#define LIFEBOAT_TABLES_H

#include "bits.h"

enum { MOST_CODE = 44, FIRST_CODE = 32 };

/* Frequencies that add up to TOTAL, as ans.normalise finds them. */
static void normalise(const uint32_t counts[MOST_SYMBOLS], uint16_t frequencies[MOST_SYMBOLS]) {
    uint64_t total = 0;
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) total += counts[symbol];
    memset(frequencies, 0, MOST_SYMBOLS * sizeof *frequencies);
    if (!total) {
        frequencies[0] = TOTAL;
        return;
    }
    int64_t excess = -TOTAL;
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        if (!counts[symbol]) continue;
        uint64_t share = ((uint64_t)counts[symbol] * TOTAL + total / 2) / total;
        frequencies[symbol] = (uint16_t)(share ? share : 1);
        excess += frequencies[symbol];
    }
    if (!excess) return;
    int64_t left = excess > 0 ? excess : -excess, weight_left = 0;
    int reserved = excess > 0;
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        if (frequencies[symbol]) weight_left += frequencies[symbol] - reserved;
    }
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        int64_t weight = frequencies[symbol] ? frequencies[symbol] - reserved : 0;
        if (!weight) continue;
        int64_t share = left * weight / weight_left;
        frequencies[symbol] = (uint16_t)(excess > 0 ? frequencies[symbol] - share : frequencies[symbol] + share);
        left -= share;
        weight_left -= weight;
    }
}

static void frequencies_of_codes(const uint8_t codes[MOST_SYMBOLS], uint16_t frequencies[MOST_SYMBOLS]) {
    uint32_t weights[MOST_SYMBOLS];
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        unsigned code = codes[symbol], shift = code < 8 ? 0 : (code >> 2) - 1;
        weights[symbol] = ((code - (shift << 2)) << shift) + ((1u << shift) >> 1);
    }
    normalise(weights, frequencies);
}

/* The code of a weight: four to an octave, so it is a logarithm as well. */
ALWAYS_INLINE unsigned code_of(unsigned weight) {
    unsigned highest = highest_bit(weight), shift = highest > 2 ? highest - 2 : 0;
    return (shift << 2) + (weight >> shift);
}

static void codes_of_counts(const uint32_t counts[MOST_SYMBOLS], uint8_t codes[MOST_SYMBOLS]) {
    uint16_t frequencies[MOST_SYMBOLS];
    normalise(counts, frequencies);
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) codes[symbol] = (uint8_t)code_of(frequencies[symbol]);
}

static int predicted_code(const uint8_t *codes, int symbol) {
    if (!symbol) return FIRST_CODE;
    return symbol < 3 ? codes[symbol - 1] : codes[symbol - 2];
}

static void write_table(BitWriter *writer, const uint8_t codes[MOST_SYMBOLS]) {
    int size = MOST_SYMBOLS;
    while (!codes[size - 1]) size--;
    put_field(writer, (uint64_t)(size - 1), 8);
    for (int symbol = 0; symbol < size; symbol++) put_near(writer, codes[symbol], predicted_code(codes, symbol));
}

static int read_table(BitReader *reader, int alphabet, uint8_t codes[MOST_SYMBOLS]) {
    uint64_t field;
    memset(codes, 0, MOST_SYMBOLS);
    if (!get_field(reader, 8, &field) || (int)field >= alphabet) return DAMAGED;
    int size = (int)field + 1;
    for (int symbol = 0; symbol < size; symbol++) {
        int code;
        if (get_near(reader, predicted_code(codes, symbol), MOST_CODE, &code)) return DAMAGED;
        codes[symbol] = (uint8_t)code;
    }
    return codes[size - 1] ? 0 : DAMAGED;
}

/* What encoding a symbol needs. The reciprocal is 2^32 / frequency, rounded down: a product with a state of 32 bits is the
   quotient or one less, and the remainder tells which. */
typedef struct {
    uint32_t reciprocal;
    uint16_t frequency, start;
} Coding;

static void fill_codings(const uint16_t frequencies[MOST_SYMBOLS], Coding codings[MOST_SYMBOLS]) {
    uint32_t start = 0;
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        uint32_t frequency = frequencies[symbol];
        codings[symbol].reciprocal = frequency ? UINT32_MAX / frequency : 0;
        codings[symbol].frequency = (uint16_t)frequency;
        codings[symbol].start = (uint16_t)start;
        start += frequency;
    }
}

/* For each slot of one distribution: frequency - 1, slot - start and symbol, in 12, 12 and 8 bits. */
static void fill_slots(const uint16_t frequencies[MOST_SYMBOLS], uint32_t slots[TOTAL]) {
    uint32_t slot = 0;
    for (uint32_t symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        uint32_t frequency = frequencies[symbol];
        for (uint32_t offset = 0; offset < frequency; offset++) {
            slots[slot++] = ((frequency - 1) << 20) | (offset << 8) | symbol;
        }
    }
}

/* Tables of several distributions: codes, then either codings or slots. */
static void write_tables(Output *output, const uint8_t (*codes)[MOST_SYMBOLS], size_t number) {
    BitWriter writer = {output, 0, 0};
    for (size_t table = 0; table < number; table++) write_table(&writer, codes[table]);
    finish_fields(&writer);
}

static int read_tables(Input *input, size_t number, int alphabet, uint32_t *slots) {
    BitReader reader = {input->data, 0, (uint64_t)input->size * 8};
    for (size_t table = 0; table < number; table++) {
        uint8_t codes[MOST_SYMBOLS];
        uint16_t frequencies[MOST_SYMBOLS];
        if (read_table(&reader, alphabet, codes)) return DAMAGED;
        frequencies_of_codes(codes, frequencies);
        fill_slots(frequencies, slots + table * TOTAL);
    }
    if (!rest_is_zero(&reader)) return DAMAGED;
    take(input, (size_t)((reader.position + 7) / 8));
    return 0;
}

#endif
