/* The memory that encoders and decoders work in. */

#ifndef LIFEBOAT_WORKSPACE_H
#define LIFEBOAT_WORKSPACE_H

#include "rans.h"

enum {
    CLASSES = 16,
    INDICES = 64,
    SCALES = 33, /* no change, and one for each highest bit of a mean of 32 bits */
    CHUNK = 4096, /* numbers decoded at a time: a multiple of the lanes, and small enough for the first-level cache */
};

/* How often each symbol occurs in each cell, by scale and by whether the stretch has a direction. All of it is zero between two
   blocks, so that only what a block touches has to be cleared. */
typedef struct {
    uint32_t counts[2 * SCALES][INDICES][MOST_SYMBOLS];
    uint8_t depth[2 * SCALES]; /* how many indices, from the highest down to the lowest that occurs */
} Cells;

/* What an encoder works in: one run of memory that the caller keeps from block to block and that is zero at first, for fresh
   memory costs nearly as much as the work. */
typedef struct {
    Cells *cells;
    Coding (*codings)[MOST_SYMBOLS];
    uint32_t (*counts)[MOST_SYMBOLS];
    uint8_t (*codes)[MOST_SYMBOLS];
    uint8_t *symbols, *contexts, *rows;
    uint16_t *room;
    uint8_t *extra; /* as large as the block: more extra bits than that cannot pay */
    size_t extra_size;
} Workspace;

enum { MOST_CONTEXTS = 64, ROW_BYTES = 8, PARTS = 9, PART_ALIGNMENT = 64 };

/* Place the parts of a workspace in memory, if there is any yet; return how much they take. */
static size_t place_workspace(Workspace *work, uint8_t *memory, size_t count, size_t width, size_t stretch) {
    const size_t stretches = (count + stretch - 1) / stretch;
    const size_t sizes[PARTS] = {sizeof *work->cells, MOST_CONTEXTS * sizeof *work->codings, MOST_CONTEXTS * sizeof *work->counts,
                                 MOST_CONTEXTS * sizeof *work->codes, count, count, stretches * ROW_BYTES,
                                 (count + WORDS_BEFORE) * sizeof *work->room, count * width + 8};
    uint8_t *parts[PARTS];
    size_t total = 0;
    for (size_t part = 0; part < PARTS; part++) {
        parts[part] = memory ? memory + total : NULL;
        total += (sizes[part] + PART_ALIGNMENT - 1) & ~(size_t)(PART_ALIGNMENT - 1);
    }
    work->cells = (void *)parts[0];
    work->codings = (void *)parts[1];
    work->counts = (void *)parts[2];
    work->codes = (void *)parts[3];
    work->symbols = parts[4];
    work->contexts = parts[5];
    work->rows = parts[6];
    work->room = (void *)parts[7];
    work->extra = parts[8];
    work->extra_size = sizes[8];
    return total;
}

/* Write tables for the counts and the symbols coded with them, then the extra bits. */
static void write_coded(Output *output, const Workspace *work, size_t count, size_t tables, const Output *extra) {
    for (size_t table = 0; table < tables; table++) {
        uint16_t frequencies[MOST_SYMBOLS];
        codes_of_counts(work->counts[table], work->codes[table]);
        frequencies_of_codes(work->codes[table], frequencies);
        fill_codings(frequencies, work->codings[table]);
    }
    write_tables(output, (const uint8_t (*)[MOST_SYMBOLS])work->codes, tables);
    write_symbols(output, work->symbols, work->contexts, count, work->codings[0], work->room);
    put(output, extra->data, extra->size);
    if (extra->failed) output->failed = 1;
}

/* Kinds or classes of stretches, and slots, that a decoder works in: one allocation. */
typedef struct {
    uint8_t *of_stretch;
    uint32_t *slots;
} Tables;

static void *open_tables(Tables *tables, size_t stretches, size_t number) {
    size_t slot_bytes = number * TOTAL * sizeof *tables->slots;
    uint8_t *memory = malloc(slot_bytes + stretches);
    tables->slots = (void *)memory;
    tables->of_stretch = memory ? memory + slot_bytes : NULL;
    return memory;
}

#endif
