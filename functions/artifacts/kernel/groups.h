/* Which distribution a residual is coded with: the same choices and bytes as groups.py of functions/artifacts/codecs, where they
   are written down. */

#ifndef LIFEBOAT_GROUPS_H
#define LIFEBOAT_GROUPS_H

#include "layout.h"
#include "workspace.h"

enum {
    GROUPS = 2 * CLASSES,
    DIRECTIONS = 3, /* turned with the parent's sign, not turned, all turned */
    KINDS = DIRECTIONS * CLASSES,
    REFERENCE_STEP = 8,
    LEAST_DIRECTED = 16,
    NARROW_SCALE_BITS = 16, /* for numbers of 1 and 2 bytes */
    WIDE_SCALE_BITS = 4,
    LEAST_MEMBERS = 1024,
    MOST_LEVELS = 512,
    FIRST_STEP = 2,
    INDEX_BITS = 6,
};

/* A stretch while its class is not known yet: scale of its mean, no change being 0, and direction. */
typedef struct {
    uint8_t scale, direction;
} Row;

/* The distribution of each cell of the groups that occur. */
typedef struct {
    uint8_t tables[GROUPS][INDICES];
    uint8_t occurs[GROUPS];
    unsigned number;
} Contexts;

ALWAYS_INLINE unsigned group_of(unsigned kind) { return kind / DIRECTIONS * 2 + (kind % DIRECTIONS > 0); }

/* What turns the residuals of a stretch: the parent's sign where `with` is set, and the opposite where `against` is. */
typedef struct {
    uint64_t with, against;
} Turn;

ALWAYS_INLINE Turn turn_of(unsigned direction, const Order *order) {
    const Turn turn = {direction ? 0 : order->align, direction == 2 ? UINT64_MAX : 0};
    return turn;
}

/* The classes of scales, the largest being 15. */
static void classes_of(const Row *rows, size_t stretches, uint8_t class_of[SCALES]) {
    unsigned largest = 1;
    for (size_t row = 0; row < stretches; row++) largest = rows[row].scale > largest ? rows[row].scale : largest;
    class_of[0] = 0;
    for (unsigned scale = 1; scale < SCALES; scale++) {
        unsigned class = scale + CLASSES > largest + 2 ? scale + CLASSES - 1 - largest : 1;
        class_of[scale] = (uint8_t)(class < CLASSES ? class : CLASSES - 1);
    }
}

ALWAYS_INLINE int predicted_table(const uint8_t *tables, const uint8_t *before, unsigned index, unsigned number) {
    if (index == INDICES - 1) return before ? before[index] : 0;
    int step = before ? before[index] - before[index + 1] : FIRST_STEP, table = tables[index + 1] + step;
    return table < 0 ? 0 : table >= (int)number ? (int)number - 1 : table;
}

/* The level of a mean number times 256. */
ALWAYS_INLINE unsigned level_of(unsigned mean, unsigned mantissa) {
    const unsigned first = 512u << mantissa;
    if (mean < first) return code_of(mean);
    unsigned level = code_of(first) + ((mean - first) >> (mantissa + 6));
    return level < MOST_LEVELS ? level : MOST_LEVELS - 1;
}

/* Put levels together to distributions; return how many there are. */
static unsigned put_together(const uint32_t of_level[MOST_LEVELS], uint8_t table_of_level[MOST_LEVELS]) {
    for (uint32_t least = LEAST_MEMBERS;; least *= 2) {
        unsigned number = 0;
        uint32_t together = 0;
        for (unsigned level = 0; level < MOST_LEVELS; level++) {
            table_of_level[level] = (uint8_t)(number < MOST_CONTEXTS ? number : MOST_CONTEXTS);
            together += of_level[level];
            if (together < least) continue;
            number++;
            together = 0;
        }
        if (number <= MOST_CONTEXTS) return number ? number : 1;
    }
}

/* Put cells with like residuals together: fill `contexts`, and the counts of each distribution from those of the cells, which are
   zero again after it. */
static void find_contexts(Cells *cells, const uint8_t class_of[SCALES], unsigned mantissa, Contexts *contexts,
                          uint32_t (*counts)[MOST_SYMBOLS]) {
    uint32_t members[GROUPS][INDICES], of_level[MOST_LEVELS] = {0};
    uint64_t sums[GROUPS][INDICES];
    uint16_t levels[GROUPS][INDICES];
    memset(members, 0, sizeof members);
    memset(sums, 0, sizeof sums);
    memset(contexts->occurs, 0, sizeof contexts->occurs);
    for (unsigned place = 0; place < 2 * SCALES; place++) {
        unsigned group = class_of[place >> 1] * 2u + (place & 1);
        for (unsigned index = INDICES - cells->depth[place]; index < INDICES; index++) {
            const uint32_t *of_cell = cells->counts[place][index];
            uint32_t found = 0;
            uint64_t sum = 0;
            for (unsigned symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
                found += of_cell[symbol];
                sum += (uint64_t)of_cell[symbol] * ((symbol + 1) / 2);
            }
            members[group][index] += found;
            sums[group][index] += sum;
            contexts->occurs[group] = 1;
        }
    }
    for (unsigned group = 0; group < GROUPS; group++) {
        for (unsigned index = 0; index < INDICES; index++) {
            if (!members[group][index]) continue;
            unsigned level = level_of((unsigned)((sums[group][index] << 8) / members[group][index]), mantissa);
            levels[group][index] = (uint16_t)level;
            of_level[level] += members[group][index];
        }
    }
    uint8_t table_of_level[MOST_LEVELS];
    contexts->number = put_together(of_level, table_of_level);
    const uint8_t *before = NULL;
    for (unsigned group = 0; group < GROUPS; group++) {
        if (!contexts->occurs[group]) continue;
        uint8_t *tables = contexts->tables[group];
        unsigned lowest = 0;
        while (!members[group][lowest]) lowest++;
        for (unsigned index = INDICES; index-- > lowest;) {
            unsigned table = members[group][index] ? table_of_level[levels[group][index]]
                                                   : (unsigned)predicted_table(tables, before, index, contexts->number);
            tables[index] = (uint8_t)(table < contexts->number ? table : contexts->number - 1);
        }
        memset(tables, tables[lowest], lowest);
        before = tables;
    }
    memset(counts, 0, contexts->number * sizeof *counts);
    for (unsigned place = 0; place < 2 * SCALES; place++) {
        const uint8_t *tables = contexts->tables[class_of[place >> 1] * 2u + (place & 1)];
        for (unsigned index = INDICES - cells->depth[place]; index < INDICES; index++) {
            uint32_t *of_cell = cells->counts[place][index], *sum = counts[tables[index]];
            for (unsigned symbol = 0; symbol < MOST_SYMBOLS; symbol++) sum[symbol] += of_cell[symbol];
            memset(of_cell, 0, sizeof cells->counts[place][index]);
        }
        cells->depth[place] = 0;
    }
}

static void write_contexts(Output *output, const Contexts *contexts) {
    BitWriter writer = {output, 0, 0};
    const uint8_t *before = NULL;
    put_byte(output, contexts->number - 1);
    for (unsigned group = 0; group < GROUPS; group++) {
        if (!contexts->occurs[group]) continue;
        const uint8_t *tables = contexts->tables[group];
        unsigned lowest = 0;
        while (lowest < INDICES - 1 && tables[lowest + 1] == tables[0]) lowest++;
        put_field(&writer, lowest, INDEX_BITS);
        for (unsigned index = INDICES; index-- > lowest;) {
            put_near(&writer, tables[index], predicted_table(tables, before, index, contexts->number));
        }
        before = tables;
    }
    finish_fields(&writer);
}

/* Read what write_contexts wrote; `contexts->occurs` is known. */
static int read_contexts(Input *input, Contexts *contexts) {
    const uint8_t *byte = take(input, 1), *before = NULL;
    if (!byte || *byte >= MOST_CONTEXTS) return DAMAGED;
    contexts->number = *byte + 1u;
    BitReader reader = {input->data, 0, (uint64_t)input->size * 8};
    for (unsigned group = 0; group < GROUPS; group++) {
        if (!contexts->occurs[group]) continue;
        uint8_t *tables = contexts->tables[group];
        uint64_t lowest;
        if (!get_field(&reader, INDEX_BITS, &lowest)) return DAMAGED;
        for (unsigned index = INDICES; index-- > lowest;) {
            int table;
            if (get_near(&reader, predicted_table(tables, before, index, contexts->number), (int)contexts->number - 1, &table)) {
                return DAMAGED;
            }
            tables[index] = (uint8_t)table;
        }
        memset(tables, tables[lowest], lowest);
        before = tables;
    }
    if (!rest_is_zero(&reader)) return DAMAGED;
    take(input, (size_t)((reader.position + 7) / 8));
    return 0;
}

/* Put the distribution of each exponent index in its place. */
static void map_indices(const uint8_t cells[INDICES], uint8_t *indices, size_t count) {
    size_t at = 0;
#if defined(__AVX2__)
    /* Sixteen cells to a shuffle, which looks at the four lowest bits; the other two choose among four of them. */
    __m256i quarters[4];
    for (int quarter = 0; quarter < 4; quarter++) {
        quarters[quarter] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(cells + 16 * quarter)));
    }
    for (; at + 32 <= count; at += 32) {
        __m256i index = _mm256_loadu_si256((const void *)(indices + at));
        __m256i odd = _mm256_slli_epi16(index, 3), upper = _mm256_slli_epi16(index, 2);
        __m256i low = _mm256_blendv_epi8(_mm256_shuffle_epi8(quarters[0], index), _mm256_shuffle_epi8(quarters[1], index), odd);
        __m256i high = _mm256_blendv_epi8(_mm256_shuffle_epi8(quarters[2], index), _mm256_shuffle_epi8(quarters[3], index), odd);
        _mm256_storeu_si256((void *)(indices + at), _mm256_blendv_epi8(low, high, upper));
    }
#endif
    for (; at < count; at++) indices[at] = cells[indices[at]];
}

#endif
