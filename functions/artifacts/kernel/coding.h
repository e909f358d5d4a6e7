/* Bits, distributions and interleaved rANS: the same bytes as bits.py and ans.py of functions/artifacts/codecs, where the format
   is written down. Everything here is static and works on memory that the caller has measured; readers check before they read. */

#ifndef LIFEBOAT_CODING_H
#define LIFEBOAT_CODING_H

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
    MOST_CODE = 44,
    FIRST_CODE = 32,
    MOST_ZEROS = 64,
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

/* True if only zeros follow in the byte that was begun. */
static int rest_is_zero(const BitReader *reader) {
    unsigned used = (unsigned)(reader->position & 7);
    return !used || !(reader->data[reader->position >> 3] >> used);
}

ALWAYS_INLINE unsigned highest_bit(uint64_t value) { return 63u - (unsigned)__builtin_clzll(value | 1); }

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

static void codes_of_counts(const uint32_t counts[MOST_SYMBOLS], uint8_t codes[MOST_SYMBOLS]) {
    uint16_t frequencies[MOST_SYMBOLS];
    normalise(counts, frequencies);
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        unsigned frequency = frequencies[symbol], highest = highest_bit(frequency);
        unsigned shift = highest > 2 ? highest - 2 : 0;
        codes[symbol] = (uint8_t)((shift << 2) + (frequency >> shift));
    }
}

static int predicted_code(const uint8_t *codes, int symbol) {
    if (!symbol) return FIRST_CODE;
    return symbol < 3 ? codes[symbol - 1] : codes[symbol - 2];
}

static void write_table(BitWriter *writer, const uint8_t codes[MOST_SYMBOLS]) {
    int size = MOST_SYMBOLS;
    while (!codes[size - 1]) size--;
    put_field(writer, (uint64_t)(size - 1), 8);
    for (int symbol = 0; symbol < size; symbol++) {
        int difference = predicted_code(codes, symbol) - codes[symbol];
        if (!difference) {
            put_field(writer, 1, 1);
            continue;
        }
        unsigned number = (unsigned)(difference > 0 ? 2 * difference - 2 : -2 * difference - 1);
        put_field(writer, (uint64_t)(2 * (number & 1) + 1) << ((number >> 1) + 1), (number >> 1) + 3);
    }
}

static int read_table(BitReader *reader, int alphabet, uint8_t codes[MOST_SYMBOLS]) {
    uint64_t field;
    memset(codes, 0, MOST_SYMBOLS);
    if (!get_field(reader, 8, &field) || (int)field >= alphabet) return DAMAGED;
    int size = (int)field + 1;
    for (int symbol = 0; symbol < size; symbol++) {
        int code = predicted_code(codes, symbol), half = 0;
        if (!get_field(reader, 1, &field)) return DAMAGED;
        if (!field) {
            for (;;) {
                if (!get_field(reader, 1, &field)) return DAMAGED;
                if (field) break;
                if (++half > MOST_ZEROS) return DAMAGED;
            }
            if (!get_field(reader, 1, &field)) return DAMAGED;
            code += field ? half + 1 : -half - 1;
        }
        if (code < 0 || code > MOST_CODE) return DAMAGED;
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

static unsigned lanes_log_for(size_t count) {
    unsigned log = count ? highest_bit(count) : 0;
    log = log > SYMBOLS_A_LANE_LOG ? log - SYMBOLS_A_LANE_LOG : 0;
    return log < MOST_LANES_LOG ? log : MOST_LANES_LOG;
}

#if defined(__AVX2__)
/* For each set of eight lanes, the places that bring its members, in order, to the end of a vector. */
static void fill_places(uint8_t places[256][8]) {
    for (unsigned set = 0; set < 256; set++) {
        unsigned last = 8;
        for (unsigned lane = 8; lane-- > 0;) {
            if (set >> lane & 1) places[set][--last] = (uint8_t)lane;
        }
        while (last-- > 0) places[set][last] = 0;
    }
}

/* One symbol of each lane, eight lanes at a time, the last first (the way of arXiv 1402.3392, section 3). Whole vectors are
   stored before `next`, which is returned as it is then. */
static uint16_t *write_round(uint32_t *states, size_t lanes, const uint8_t *symbols, const uint8_t *contexts,
                             const Coding *codings, const uint8_t places[256][8], uint16_t *next) {
    const __m256i low_half = _mm256_set1_epi32(0xFFFF), ones = _mm256_set1_epi32(-1);
    const int *first = (const void *)codings;
    for (size_t lane = lanes; lane > 0;) {
        lane -= 8;
        __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(symbols + lane)));
        if (contexts) {
            __m256i context = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(contexts + lane)));
            index = _mm256_or_si256(index, _mm256_slli_epi32(context, 8));
        }
        __m256i reciprocal = _mm256_i32gather_epi32(first, index, 8);
        __m256i both = _mm256_i32gather_epi32(first + 1, index, 8);
        __m256i frequency = _mm256_and_si256(both, low_half), start = _mm256_srli_epi32(both, 16);
        __m256i state = _mm256_loadu_si256((const void *)(states + lane));
        __m256i fits = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32(state, 20));
        unsigned set = ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(fits)) & 0xFF;
        __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)places[set]));
        __m256i words = _mm256_and_si256(_mm256_permutevar8x32_epi32(state, order), low_half);
        _mm_storeu_si128((void *)(next - 8), _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
        next -= __builtin_popcount(set);
        state = _mm256_blendv_epi8(_mm256_srli_epi32(state, 16), state, fits);
        __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(state, reciprocal), 32);
        __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(state, 32), _mm256_srli_epi64(reciprocal, 32));
        __m256i quotient = _mm256_blend_epi32(even, odd, 0xAA);
        __m256i remainder = _mm256_sub_epi32(state, _mm256_mullo_epi32(quotient, frequency));
        __m256i exact = _mm256_cmpgt_epi32(frequency, remainder);
        quotient = _mm256_sub_epi32(quotient, _mm256_andnot_si256(exact, ones));
        remainder = _mm256_sub_epi32(remainder, _mm256_andnot_si256(exact, frequency));
        state = _mm256_add_epi32(_mm256_slli_epi32(quotient, PRECISION_BITS), _mm256_add_epi32(remainder, start));
        _mm256_storeu_si256((void *)(states + lane), state);
    }
    return next;
}
#endif

/* Append lanes, count, states and words. `contexts` may be null: all symbols are coded with the first table. `room` holds
   count + WORDS_BEFORE words. */
static void write_symbols(Output *output, const uint8_t *symbols, const uint8_t *contexts, size_t count,
                          const Coding *codings, uint16_t *room) {
    unsigned lanes_log = lanes_log_for(count);
    size_t lanes = (size_t)1 << lanes_log, mask = lanes - 1;
    uint32_t states[MOST_LANES];
    for (size_t lane = 0; lane < lanes; lane++) states[lane] = LOWEST_STATE;
    uint16_t *end = room + count + WORDS_BEFORE, *next = end;
#if defined(__AVX2__)
    uint8_t places[256][8];
    if (lanes >= 8) fill_places(places);
#endif
    for (size_t at = count; at-- > 0;) {
#if defined(__AVX2__)
        if (lanes >= 8 && (at & mask) == mask) {
            at -= mask;
            next = write_round(states, lanes, symbols + at, contexts ? contexts + at : NULL, codings,
                               (const uint8_t (*)[8])places, next);
            continue;
        }
#endif
        const Coding *coding = &codings[(contexts ? contexts[at] : 0u) * (size_t)MOST_SYMBOLS + symbols[at]];
        uint32_t state = states[at & mask], frequency = coding->frequency;
        /* A state that would outgrow 32 bits gives its lower half away first; the word is kept only then. */
        next[-1] = (uint16_t)state;
        uint32_t full = (state >> 20) >= frequency;
        next -= full;
        state >>= full << 4;
        uint32_t quotient = (uint32_t)(((uint64_t)state * coding->reciprocal) >> 32);
        uint32_t remainder = state - quotient * frequency, more = remainder >= frequency;
        states[at & mask] = ((quotient + more) << PRECISION_BITS) + remainder - (more ? frequency : 0) + coding->start;
    }
    uint32_t words = (uint32_t)(end - next);
    put_byte(output, lanes_log);
    put(output, &words, 4);
    put(output, states, 4 * lanes);
    put(output, next, 2 * (size_t)words);
}

/* A decoder in the middle of its symbols; it gives as many at a time as asked, a multiple of the lanes except at the end. */
typedef struct {
    uint32_t states[MOST_LANES];
    size_t lanes;
    const uint8_t *words, *end;
#if defined(__AVX2__)
    uint8_t ranks[256][8]; /* for each set of eight lanes, how many of the set come before a lane */
#endif
} SymbolReader;

static int open_symbols(Input *input, size_t count, SymbolReader *reader) {
    const uint8_t *head = take(input, 5);
    if (!head || head[0] > MOST_LANES_LOG) return DAMAGED;
    uint32_t words;
    memcpy(&words, head + 1, 4);
    reader->lanes = (size_t)1 << head[0];
    const uint8_t *states = take(input, 4 * reader->lanes);
    if (!states || words > count) return DAMAGED;
    memcpy(reader->states, states, 4 * reader->lanes);
    for (size_t lane = 0; lane < reader->lanes; lane++) {
        if (reader->states[lane] < LOWEST_STATE) return DAMAGED;
    }
    reader->words = take(input, 2 * (size_t)words);
    if (!reader->words) return DAMAGED;
    reader->end = reader->words + 2 * (size_t)words;
#if defined(__AVX2__)
    if (reader->lanes < 8) return 0;
    for (unsigned set = 0; set < 256; set++) {
        uint8_t rank = 0;
        for (unsigned lane = 0; lane < 8; lane++) {
            reader->ranks[set][lane] = rank;
            rank = (uint8_t)(rank + (set >> lane & 1));
        }
    }
#endif
    return 0;
}

#if defined(__AVX2__)
/* One symbol of each lane, eight lanes at a time (the way of arXiv 1402.3392, section 3). The words must hold one for each lane
   and eight more, as whole vectors are loaded. */
static void read_round(SymbolReader *reader, const uint8_t *contexts, const uint32_t *slots, uint8_t *symbols) {
    const __m256i low_slot = _mm256_set1_epi32(TOTAL - 1), one = _mm256_set1_epi32(1), zero = _mm256_setzero_si256();
    const __m256i first_bytes = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                                 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const uint8_t *words = reader->words;
    for (size_t lane = 0; lane < reader->lanes; lane += 8) {
        __m256i state = _mm256_loadu_si256((const void *)(reader->states + lane));
        __m256i index = _mm256_and_si256(state, low_slot);
        if (contexts) {
            __m256i context = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(contexts + lane)));
            index = _mm256_add_epi32(index, _mm256_slli_epi32(context, PRECISION_BITS));
        }
        __m256i slot = _mm256_i32gather_epi32((const int *)slots, index, 4);
        __m256i frequency = _mm256_add_epi32(_mm256_srli_epi32(slot, 20), one);
        __m256i offset = _mm256_and_si256(_mm256_srli_epi32(slot, 8), low_slot);
        state = _mm256_mullo_epi32(frequency, _mm256_srli_epi32(state, PRECISION_BITS));
        state = _mm256_add_epi32(state, offset);
        __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(state, 16), zero);
        unsigned set = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(low));
        __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)words));
        __m256i rank = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)reader->ranks[set]));
        next = _mm256_or_si256(_mm256_slli_epi32(state, 16), _mm256_permutevar8x32_epi32(next, rank));
        _mm256_storeu_si256((void *)(reader->states + lane), _mm256_blendv_epi8(state, next, low));
        words += 2 * __builtin_popcount(set);
        __m256i bytes = _mm256_shuffle_epi8(slot, first_bytes);
        uint32_t halves[2] = {(uint32_t)_mm256_extract_epi32(bytes, 0), (uint32_t)_mm256_extract_epi32(bytes, 4)};
        memcpy(symbols + lane, halves, 8);
    }
    reader->words = words;
}
#endif

static int read_symbols(SymbolReader *reader, const uint8_t *contexts, size_t count, const uint32_t *slots,
                        uint8_t *symbols) {
    for (size_t begin = 0; begin < count; begin += reader->lanes) {
        size_t number = count - begin < reader->lanes ? count - begin : reader->lanes;
        const uint8_t *words = reader->words;
        const uint8_t *context = contexts ? contexts + begin : NULL;
#if defined(__AVX2__)
        if (number == reader->lanes && number >= 8 && (size_t)(reader->end - words) >= 2 * number + 16) {
            read_round(reader, context, slots, symbols + begin);
            continue;
        }
#endif
        if ((size_t)(reader->end - words) >= 2 * number) {
            /* Each lane takes one word at most, so none can pass the end. */
            for (size_t lane = 0; lane < number; lane++) {
                uint32_t state = reader->states[lane];
                uint32_t slot = slots[(context ? context[lane] : 0u) * (size_t)TOTAL + (state & (TOTAL - 1))];
                uint16_t word;
                memcpy(&word, words, 2);
                state = ((slot >> 20) + 1) * (state >> PRECISION_BITS) + ((slot >> 8) & (TOTAL - 1));
                uint32_t low = state < LOWEST_STATE;
                reader->states[lane] = (state << (low << 4)) | (word & (0u - low));
                words += 2 * low;
                symbols[begin + lane] = (uint8_t)slot;
            }
        } else {
            for (size_t lane = 0; lane < number; lane++) {
                uint32_t state = reader->states[lane];
                uint32_t slot = slots[(context ? context[lane] : 0u) * (size_t)TOTAL + (state & (TOTAL - 1))];
                state = ((slot >> 20) + 1) * (state >> PRECISION_BITS) + ((slot >> 8) & (TOTAL - 1));
                if (state < LOWEST_STATE) {
                    if (words == reader->end) return DAMAGED;
                    uint16_t word;
                    memcpy(&word, words, 2);
                    state = (state << 16) | word;
                    words += 2;
                }
                reader->states[lane] = state;
                symbols[begin + lane] = (uint8_t)slot;
            }
        }
        reader->words = words;
    }
    return 0;
}

static int close_symbols(const SymbolReader *reader) {
    for (size_t lane = 0; lane < reader->lanes; lane++) {
        if (reader->states[lane] != LOWEST_STATE) return DAMAGED;
    }
    return reader->words == reader->end ? 0 : DAMAGED;
}

/* Append one table and the symbols coded with it. */
static int write_run(Output *output, const uint8_t *symbols, size_t count) {
    uint32_t counts[MOST_SYMBOLS] = {0};
    for (size_t at = 0; at < count; at++) counts[symbols[at]]++;
    uint8_t codes[MOST_SYMBOLS];
    uint16_t frequencies[MOST_SYMBOLS];
    Coding codings[MOST_SYMBOLS];
    codes_of_counts(counts, codes);
    frequencies_of_codes(codes, frequencies);
    fill_codings(frequencies, codings);
    uint16_t *room = malloc((count + WORDS_BEFORE) * sizeof *room);
    if (!room) return OUT_OF_MEMORY;
    BitWriter writer = {output, 0, 0};
    write_table(&writer, codes);
    finish_fields(&writer);
    write_symbols(output, symbols, NULL, count, codings, room);
    free(room);
    return 0;
}

static int read_run(Input *input, size_t count, int alphabet, uint8_t *symbols) {
    uint8_t codes[MOST_SYMBOLS];
    uint16_t frequencies[MOST_SYMBOLS];
    uint32_t slots[TOTAL];
    BitReader reader = {input->data, 0, (uint64_t)input->size * 8};
    if (read_table(&reader, alphabet, codes) || !rest_is_zero(&reader)) return DAMAGED;
    take(input, (size_t)((reader.position + 7) / 8));
    frequencies_of_codes(codes, frequencies);
    fill_slots(frequencies, slots);
    SymbolReader run;
    if (open_symbols(input, count, &run) || read_symbols(&run, NULL, count, slots, symbols)) return DAMAGED;
    return close_symbols(&run);
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
