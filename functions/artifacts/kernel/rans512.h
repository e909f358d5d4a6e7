/* Rounds of rans.h for processors with AVX-512 (F, BW and VL): sixteen lanes at a time, the same bytes. Compiled wherever the
   instructions have names, and called only where the processor has them. */

#ifndef LIFEBOAT_RANS512_H
#define LIFEBOAT_RANS512_H

#include "tables.h"

#if defined(__AVX2__)

#define WITH_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,popcnt")))

enum { WIDE_LANES = 16 };

static int has_avx512(void) {
#if defined(LIFEBOAT_WITHOUT_AVX512)
    return 0; /* for tests of the other way on a processor that has it */
#endif
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}

/* As write_round, for lanes that are a multiple of sixteen. */
WITH_AVX512 static uint16_t *write_wide_round(uint32_t *states, size_t lanes, const uint8_t *symbols, const uint8_t *contexts,
                                              const Coding *codings, uint16_t *next) {
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    for (size_t lane = lanes; lane > 0;) {
        lane -= WIDE_LANES;
        __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(symbols + lane)));
        if (contexts) {
            __m512i context = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(contexts + lane)));
            index = _mm512_or_si512(index, _mm512_slli_epi32(context, 8));
        }
        /* Eight codings of 64 bits to a vector: half as many loads as the 32-bit halves would take. */
        __m512i low = _mm512_i32gather_epi64(_mm512_castsi512_si256(index), codings, 8);
        __m512i high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(index, 1), codings, 8);
        __m512i both = _mm512_permutex2var_epi32(low, odd, high);
        __m512i frequency = _mm512_and_si512(both, _mm512_set1_epi32(0xFFFF)), start = _mm512_srli_epi32(both, 16);
        __m512i state = _mm512_loadu_si512(states + lane);
        __mmask16 full = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(state, 20), frequency);
        unsigned words = (unsigned)__builtin_popcount(full);
        next -= words;
        __m256i given = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, state));
        _mm256_mask_storeu_epi16(next, (__mmask16)((1u << words) - 1), given);
        state = _mm512_mask_srli_epi32(state, full, state, 16);
        __m512i first = _mm512_mul_epu32(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(state)), low);
        __m512i second = _mm512_mul_epu32(_mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(state, 1)), high);
        __m512i quotient = _mm512_permutex2var_epi32(first, odd, second);
        __m512i remainder = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, frequency));
        __mmask16 more = _mm512_cmpge_epu32_mask(remainder, frequency);
        quotient = _mm512_mask_add_epi32(quotient, more, quotient, _mm512_set1_epi32(1));
        remainder = _mm512_mask_sub_epi32(remainder, more, remainder, frequency);
        state = _mm512_add_epi32(_mm512_slli_epi32(quotient, PRECISION_BITS), _mm512_add_epi32(remainder, start));
        _mm512_storeu_si512(states + lane, state);
    }
    return next;
}

/* As read_round, for lanes that are a multiple of sixteen; sixteen words more than the lanes must follow. */
WITH_AVX512 static const uint8_t *read_wide_round(uint32_t *states, size_t lanes, const uint8_t *contexts, const uint32_t *slots,
                                                  const uint8_t *words, uint8_t *symbols) {
    const __m512i low_slot = _mm512_set1_epi32(TOTAL - 1), one = _mm512_set1_epi32(1), least = _mm512_set1_epi32(LOWEST_STATE);
    for (size_t lane = 0; lane < lanes; lane += WIDE_LANES) {
        __m512i state = _mm512_loadu_si512(states + lane);
        __m512i index = _mm512_and_si512(state, low_slot);
        if (contexts) {
            __m512i context = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(contexts + lane)));
            index = _mm512_add_epi32(index, _mm512_slli_epi32(context, PRECISION_BITS));
        }
        __m512i slot = _mm512_i32gather_epi32(index, slots, 4);
        __m512i frequency = _mm512_add_epi32(_mm512_srli_epi32(slot, 20), one);
        __m512i offset = _mm512_and_si512(_mm512_srli_epi32(slot, 8), low_slot);
        state = _mm512_add_epi32(_mm512_mullo_epi32(frequency, _mm512_srli_epi32(state, PRECISION_BITS)), offset);
        __mmask16 low = _mm512_cmplt_epu32_mask(state, least);
        __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)words));
        next = _mm512_or_si512(_mm512_slli_epi32(state, 16), _mm512_maskz_expand_epi32(low, next));
        _mm512_storeu_si512(states + lane, _mm512_mask_mov_epi32(state, low, next));
        words += 2 * __builtin_popcount(low);
        _mm_storeu_si128((void *)(symbols + lane), _mm512_cvtepi32_epi8(slot));
    }
    return words;
}

#endif
#endif
