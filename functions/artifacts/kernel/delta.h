/* Float delta: the same bytes as delta.py of functions/artifacts/codecs, where the format is written down. */

#ifndef LIFEBOAT_DELTA_H
#define LIFEBOAT_DELTA_H

#include "groups.h"

#define EACH_BYTE UINT64_C(0x0101010101010101)

enum { MOST_SAMPLES = 4096, MOST_FREQUENT = 8, LEAST_FREQUENT = 64 };

static int by_value(const void *left, const void *right) {
    uint64_t a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return a < b ? -1 : a > b;
}

static int most_frequent(uint64_t *samples, size_t number, uint64_t frequent[MOST_FREQUENT]) {
    if (number < LEAST_FREQUENT) return 0;
    qsort(samples, number, sizeof *samples, by_value);
    size_t lengths[MOST_FREQUENT];
    int found = 0;
    for (size_t begin = 0, end; begin < number; begin = end) {
        for (end = begin + 1; end < number && samples[end] == samples[begin];) end++;
        if (end - begin < LEAST_FREQUENT) continue;
        int place = found;
        while (place > 0 && lengths[place - 1] < end - begin) place--;
        if (place == MOST_FREQUENT) continue;
        if (found < MOST_FREQUENT) found++;
        for (int last = found - 1; last > place; last--) {
            lengths[last] = lengths[last - 1];
            frequent[last] = frequent[last - 1];
        }
        lengths[place] = end - begin;
        frequent[place] = samples[begin];
    }
    return found;
}

/* A symbol as its residual without extra bits, their number and which way they count. */
typedef struct {
    uint64_t base;
    uint8_t shift, negative;
} Meaning;

static void fill_meanings(Meaning meanings[MOST_SYMBOLS], int width, const uint8_t *frequent, int favourites) {
    int alphabet = (int)ALPHABET(width);
    unsigned k = MANTISSA_IN_NUMBER(width);
    for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        Meaning meaning = {0, 0, 0};
        if (symbol < alphabet) {
            unsigned number = ((unsigned)symbol + 1) / 2, shift = number >> k ? (number >> k) - 1 : 0;
            uint64_t magnitude = (uint64_t)(number - (shift << k)) << shift;
            meaning = (Meaning){symbol & 1 ? UINT64_C(0) - magnitude : magnitude, (uint8_t)shift, symbol & 1};
        } else if (symbol < alphabet + favourites) {
            meaning.base = load(frequent, (size_t)(symbol - alphabet), width);
        }
        meanings[symbol] = meaning;
    }
}

/* Of a stretch: how many more numbers went up than down, the same with the parent's sign taken out, and how many changed. */
typedef struct {
    int balance, aligned, changed;
} Tally;

static unsigned direction_of(const Tally *tally) {
    if (tally->balance * tally->balance <= LEAST_DIRECTED * tally->changed) return 0;
    if (abs(tally->balance) <= abs(tally->aligned)) return 0;
    return tally->balance > 0 ? 1 : 2;
}

/* Count the symbols of a stretch. */
static void count_cells(Cells *cells, Row row, const uint8_t *symbols, const uint8_t *indices, size_t count) {
    const unsigned place = row.scale * 2u + (row.direction > 0);
    uint32_t *counts = cells->counts[place][0];
    uint8_t lowest = INDICES - 1;
    for (size_t at = 0; at < count; at++) lowest = indices[at] < lowest ? indices[at] : lowest;
    if (INDICES - lowest > cells->depth[place]) cells->depth[place] = (uint8_t)(INDICES - lowest);
    uint16_t places[MOST_STRETCH];
    for (size_t at = 0; at < count; at++) places[at] = (uint16_t)(indices[at] * MOST_SYMBOLS + symbols[at]);
    for (size_t at = 0; at < count; at++) counts[places[at]]++;
}

/* How many of `most` numbers from a place on are in the stretch of the first. */
static size_t left_of_stretch(size_t place, size_t stretch, size_t most) {
    size_t left = stretch - place % stretch;
    return left < most ? left : most;
}

#define NUMBER uint8_t
#define SUM int32_t
#define WIDTH 1
#include "numbers.h"
#define NUMBER uint16_t
#define SUM int16_t
#define WIDTH 2
#include "numbers.h"
#define NUMBER uint32_t
#define SUM int32_t
#define WIDTH 4
#include "numbers.h"
#define NUMBER uint64_t
#define SUM int64_t
#define WIDTH 8
#include "numbers.h"

/* Calls the function of numbers.h that belongs to a width. */
#define FOR_WIDTH(width, name, ...)     \
    ((width) == 1   ? name##_1(__VA_ARGS__) \
     : (width) == 2 ? name##_2(__VA_ARGS__) \
     : (width) == 4 ? name##_4(__VA_ARGS__) \
                    : name##_8(__VA_ARGS__))

static int64_t encode_delta(const uint8_t *child, const uint8_t *parent, size_t count, const Layout *layout, size_t stretch,
                            uint8_t *memory, uint8_t *payload, size_t capacity) {
    const int width = layout->width;
    const Order order = order_of(layout);
    const size_t stretches = (count + stretch - 1) / stretch;
    Workspace work;
    place_workspace(&work, memory, count, (size_t)width, stretch);
    uint64_t frequent[MOST_FREQUENT] = {0};
    const unsigned reference = FOR_WIDTH(width, reference, parent, count, layout, stretch);
    const int favourites = FOR_WIDTH(width, find_frequent, child, parent, count, &order, frequent);
    Output extra = {work.extra, 0, work.extra_size, 0};
    BitWriter writer = {&extra, 0, 0};
    FOR_WIDTH(width, split_numbers, child, parent, count, layout, &order, stretch, reference, frequent, favourites, &work,
              &writer);
    finish_fields(&writer);

    uint8_t class_of[SCALES];
    Contexts contexts;
    classes_of((const void *)work.rows, stretches, class_of);
    find_contexts(work.cells, class_of, MANTISSA_IN_NUMBER(width), &contexts, work.counts);
    /* A row becomes its kind in place: the kind of row n takes byte n, and rows have two bytes. */
    uint8_t *kinds = work.rows;
    for (size_t at = 0, begin = 0; at < stretches; at++, begin += stretch) {
        Row row;
        memcpy(&row, work.rows + at * sizeof row, sizeof row);
        kinds[at] = (uint8_t)(DIRECTIONS * class_of[row.scale] + row.direction);
        size_t end = count - begin < stretch ? count : begin + stretch;
        map_indices(contexts.tables[group_of(kinds[at])], work.contexts + begin, end - begin);
    }

    Output output = {payload, 0, capacity, 0};
    const uint16_t numbers[2] = {(uint16_t)stretch, (uint16_t)reference};
    put(&output, numbers, sizeof numbers);
    put_byte(&output, (unsigned)favourites);
    for (int place = 0; place < favourites; place++) put(&output, &frequent[place], (size_t)width);
    write_run(&output, kinds, stretches, work.room);
    write_contexts(&output, &contexts);
    write_coded(&output, &work, count, contexts.number, &extra);
    return output.failed ? NO_ROOM : (int64_t)output.size;
}

static int64_t decode_delta(const uint8_t *payload, size_t size, const uint8_t *parent, size_t count, const Layout *layout,
                            uint8_t *child) {
    const int width = layout->width;
    const Order order = order_of(layout);
    Input input = {payload, size};
    const uint8_t *head = take(&input, 5);
    if (!head) return DAMAGED;
    const size_t stretch = head[0] | (size_t)head[1] << 8;
    const unsigned reference = head[2] | (unsigned)head[3] << 8;
    const int favourites = head[4];
    const uint8_t *frequent = take(&input, (size_t)favourites * (size_t)width);
    if (stretch < 1 || stretch > MOST_STRETCH || reference > layout->exponent_mask) return DAMAGED;
    if (favourites > MOST_FREQUENT || !frequent) return DAMAGED;
    const size_t stretches = (count + stretch - 1) / stretch;
    Tables tables;
    void *memory = open_tables(&tables, stretches, MOST_CONTEXTS);
    if (!memory) return OUT_OF_MEMORY;
    Contexts contexts;
    int failure = read_run(&input, stretches, KINDS, tables.of_stretch);
    if (!failure) {
        memset(contexts.occurs, 0, sizeof contexts.occurs);
        for (size_t row = 0; row < stretches; row++) contexts.occurs[group_of(tables.of_stretch[row])] = 1;
        failure = read_contexts(&input, &contexts);
    }
    const int alphabet = (int)ALPHABET(width) + favourites;
    if (!failure) failure = read_tables(&input, contexts.number, alphabet < MOST_SYMBOLS ? alphabet : MOST_SYMBOLS, tables.slots);
    if (!failure) {
        Meaning meanings[MOST_SYMBOLS];
        fill_meanings(meanings, width, frequent, favourites);
        failure = FOR_WIDTH(width, decode_numbers, &input, parent, count, layout, &order, stretch, reference, &contexts, &tables,
                            meanings, child);
    }
    free(memory);
    return failure;
}

#endif
