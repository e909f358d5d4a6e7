/* Interleaved rANS: the same bytes as ans.py of functions/artifacts/codecs, where the format is written down. */

#ifndef LIFEBOAT_RANS_H
#define LIFEBOAT_RANS_H

#include "rans512.h"

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
    const int wide = lanes >= WIDE_LANES && has_avx512();
    if (lanes >= 8 && !wide) fill_places(places);
#endif
    for (size_t at = count; at-- > 0;) {
#if defined(__AVX2__)
        if (lanes >= 8 && (at & mask) == mask) {
            at -= mask;
            const uint8_t *context = contexts ? contexts + at : NULL;
            next = wide ? write_wide_round(states, lanes, symbols + at, context, codings, next)
                        : write_round(states, lanes, symbols + at, context, codings, (const uint8_t (*)[8])places, next);
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
    int wide;
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
    reader->wide = reader->lanes >= WIDE_LANES && has_avx512();
    if (reader->lanes < 8 || reader->wide) return 0;
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
        if (number == reader->lanes && number >= 8 && (size_t)(reader->end - words) >= 2 * number + 32) {
            if (reader->wide) {
                reader->words = read_wide_round(reader->states, number, context, slots, words, symbols + begin);
            } else {
                read_round(reader, context, slots, symbols + begin);
            }
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

/* Append one table and the symbols coded with it; `room` as for write_symbols. */
static void write_run(Output *output, const uint8_t *symbols, size_t count, uint16_t *room) {
    uint32_t counts[MOST_SYMBOLS] = {0};
    for (size_t at = 0; at < count; at++) counts[symbols[at]]++;
    uint8_t codes[MOST_SYMBOLS];
    uint16_t frequencies[MOST_SYMBOLS];
    Coding codings[MOST_SYMBOLS];
    codes_of_counts(counts, codes);
    frequencies_of_codes(codes, frequencies);
    fill_codings(frequencies, codings);
    BitWriter writer = {output, 0, 0};
    write_table(&writer, codes);
    finish_fields(&writer);
    write_symbols(output, symbols, NULL, count, codings, room);
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

#endif
