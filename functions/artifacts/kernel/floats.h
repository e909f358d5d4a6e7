/* Floats without a parent: the same bytes as planes.py of functions/artifacts/codecs, where the format is written down. */

#ifndef LIFEBOAT_FLOATS_H
#define LIFEBOAT_FLOATS_H

#include "layout.h"
#include "workspace.h"

enum { MOST_SYMBOL_MANTISSA = 2 };

/* The bits of a number that go out as they are, below its top: the mantissa's lowest, and the sign. */
ALWAYS_INLINE uint64_t plain_bits(int low_bits, int width) { return ones(low_bits) | UINT64_C(1) << (8 * width - 1); }

#if defined(__BMI2__)
/* The same of all numbers in eight bytes. */
ALWAYS_INLINE uint64_t plain_bits_of_eight(int low_bits, int width) {
    uint64_t mask = 0;
    for (int at = 0; at < 8; at += width) mask |= plain_bits(low_bits, width) << (8 * at);
    return mask;
}
#endif

/* Append the plain bits of all numbers, as fields of one number each. */
ALWAYS_INLINE void put_plain_bits(BitWriter *writer, const uint8_t *child, size_t count, int low_bits, int width) {
    size_t at = 0;
#if defined(__BMI2__)
    const uint64_t mask = plain_bits_of_eight(low_bits, width);
    const size_t eight = 8 / (size_t)width;
    for (; at + eight <= count; at += eight) {
        put_field(writer, _pext_u64(load(child + at * (size_t)width, 0, 8), mask), (unsigned)eight * (unsigned)(low_bits + 1));
    }
#endif
    for (; at < count; at++) {
        uint64_t value = load(child, at, width);
        put_field(writer, (value & ones(low_bits)) | (value >> (8 * width - 1)) << low_bits, (unsigned)low_bits + 1);
    }
}

/* Fill a chunk from its symbols' exponents and highest mantissa bits, and the plain bits that come next. */
ALWAYS_INLINE int join_floats(const uint8_t *symbols, size_t count, const uint64_t *tops, BitReader *extra, int low_bits,
                              int width, uint8_t *child) {
    size_t at = 0;
    uint64_t field = 0;
#if defined(__BMI2__)
    const uint64_t mask = plain_bits_of_eight(low_bits, width);
    const size_t eight = 8 / (size_t)width;
    for (; at + eight <= count; at += eight) {
        if (!get_field(extra, (unsigned)eight * (unsigned)(low_bits + 1), &field)) return DAMAGED;
        uint64_t numbers = _pdep_u64(field, mask);
        for (size_t place = 0; place < eight; place++) numbers |= tops[symbols[at + place]] << (8 * (size_t)width * place);
        store(child + at * (size_t)width, 0, numbers, 8);
    }
#endif
    for (; at < count; at++) {
        if (!get_field(extra, (unsigned)low_bits + 1, &field)) return DAMAGED;
        uint64_t sign = (field >> low_bits) << (8 * width - 1);
        store(child, at, sign | tops[symbols[at]] | (field & ones(low_bits)), width);
    }
    return 0;
}

/* Count symbols by context. */
static void count_symbols(Workspace *work, size_t count, size_t tables) {
    memset(work->counts, 0, tables * sizeof *work->counts);
    for (size_t at = 0; at < count; at++) work->counts[work->contexts[at]][work->symbols[at]]++;
}

ALWAYS_INLINE int64_t encode_floats(const uint8_t *child, size_t count, const Layout *layout, size_t stretch, uint8_t *memory,
                                    uint8_t *payload, size_t capacity, int width) {
    size_t stretches = (count + stretch - 1) / stretch;
    unsigned exponents = 1u << layout->exponent_bits, distinct = 0;
    uint8_t present[2048 / 8] = {0}, occurs[2048] = {0}, symbol_of[2048 << MOST_SYMBOL_MANTISSA];
    for (size_t at = 0; at < count; at++) {
        occurs[exponent_of(load(child, at, width), layout)] = 1;
    }
    for (unsigned exponent = 0; exponent < exponents; exponent++) {
        present[exponent >> 3] |= (uint8_t)(occurs[exponent] << (exponent & 7));
        distinct += occurs[exponent];
    }
    if (distinct > MOST_SYMBOLS) return TOO_MANY_EXPONENTS;
    int k = layout->mantissa_bits < MOST_SYMBOL_MANTISSA ? layout->mantissa_bits : MOST_SYMBOL_MANTISSA;
    while (distinct << k > MOST_SYMBOLS) k--;
    int low_bits = layout->mantissa_bits - k;
    for (unsigned exponent = 0, rank = 0; exponent < exponents; rank += occurs[exponent++]) {
        for (unsigned top = 0; top < 1u << k; top++) symbol_of[exponent << k | top] = (uint8_t)(rank << k | top);
    }
    Workspace work;
    place_workspace(&work, memory, count, (size_t)width, stretch);
    uint32_t *means = (void *)work.rows;
    uint8_t *of_stretch = work.rows + 4 * stretches;
    Output extra = {work.extra, 0, work.extra_size, 0};
    BitWriter writer = {&extra, 0, 0};
    uint32_t largest = 0;
    for (size_t row = 0, begin = 0; row < stretches; row++, begin += stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch;
        uint32_t sum = 0;
        for (size_t at = begin; at < end; at++) {
            unsigned top = (unsigned)((load(child, at, width) >> low_bits) & ones(layout->exponent_bits + k));
            sum += top >> k;
            work.symbols[at] = symbol_of[top];
        }
        means[row] = 2 * sum / (uint32_t)(end - begin);
        largest = means[row] > largest ? means[row] : largest;
    }
    put_plain_bits(&writer, child, count, low_bits, width);
    finish_fields(&writer);
    unsigned classes = 0;
    for (size_t row = 0, begin = 0; row < stretches; row++, begin += stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch;
        unsigned class = means[row] + CLASSES - 1 > largest ? means[row] + CLASSES - 1 - largest : 0;
        of_stretch[row] = (uint8_t)class;
        classes = class + 1 > classes ? class + 1 : classes;
        memset(work.contexts + begin, (int)class, end - begin);
    }

    Output output = {payload, 0, capacity, 0};
    uint16_t stretch_field = (uint16_t)stretch;
    put(&output, &stretch_field, 2);
    put(&output, present, exponents / 8);
    put_byte(&output, (unsigned)k);
    put_byte(&output, classes);
    if (classes > 1) write_run(&output, of_stretch, stretches, work.room);
    count_symbols(&work, count, classes);
    write_coded(&output, &work, count, classes, &extra);
    return output.failed ? NO_ROOM : (int64_t)output.size;
}

ALWAYS_INLINE int read_floats(Input *input, size_t count, const Layout *layout, int width, size_t stretch, int k,
                              const uint16_t *found, const Tables *tables, uint8_t *child) {
    const int low_bits = layout->mantissa_bits - k;
    uint8_t contexts[CHUNK], symbols[CHUNK];
    uint64_t tops[MOST_SYMBOLS];
    for (unsigned symbol = 0; symbol < MOST_SYMBOLS; symbol++) {
        tops[symbol] = (uint64_t)found[symbol >> k] << layout->mantissa_bits | (symbol & ones(k)) << low_bits;
    }
    SymbolReader reader;
    if (open_symbols(input, count, &reader)) return DAMAGED;
    BitReader extra = {input->data, 0, (uint64_t)input->size * 8};
    if (((uint64_t)count * (unsigned)(low_bits + 1) + 7) / 8 > input->size) return DAMAGED;
    size_t row = 0, left = stretch;
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        size_t number = count - begin < CHUNK ? count - begin : CHUNK;
        for (size_t at = 0; at < number;) {
            size_t run = number - at < left ? number - at : left;
            memset(contexts + at, tables->of_stretch[row], run);
            at += run;
            left -= run;
            if (!left) {
                row++;
                left = stretch;
            }
        }
        if (read_symbols(&reader, contexts, number, tables->slots, symbols)) return DAMAGED;
        if (join_floats(symbols, number, tops, &extra, low_bits, width, child + begin * (size_t)width)) return DAMAGED;
    }
    if (close_symbols(&reader) || !rest_is_zero(&extra)) return DAMAGED;
    return (extra.position + 7) / 8 == input->size ? 0 : DAMAGED;
}

ALWAYS_INLINE int64_t decode_floats(const uint8_t *payload, size_t size, size_t count, const Layout *layout, uint8_t *child,
                                    int width) {
    Input input = {payload, size};
    const unsigned exponents = 1u << layout->exponent_bits;
    const uint8_t *head = take(&input, 2);
    const uint8_t *present = take(&input, exponents / 8);
    const uint8_t *shape = take(&input, 2);
    if (!head || !present || !shape) return DAMAGED;
    size_t stretch = head[0] | (size_t)head[1] << 8;
    int k = shape[0], classes = shape[1];
    int most = layout->mantissa_bits < MOST_SYMBOL_MANTISSA ? layout->mantissa_bits : MOST_SYMBOL_MANTISSA;
    if (stretch < 1 || stretch > MOST_STRETCH || k > most || classes < 1 || classes > CLASSES) return DAMAGED;
    uint16_t found[MOST_SYMBOLS] = {0};
    unsigned distinct = 0;
    for (unsigned exponent = 0; exponent < exponents; exponent++) {
        if (!(present[exponent >> 3] >> (exponent & 7) & 1)) continue;
        if (distinct == MOST_SYMBOLS) return DAMAGED;
        found[distinct++] = (uint16_t)exponent;
    }
    if (distinct < 1 || distinct << k > MOST_SYMBOLS) return DAMAGED;
    size_t stretches = (count + stretch - 1) / stretch;
    Tables tables;
    void *memory = open_tables(&tables, stretches, (size_t)classes);
    if (!memory) return OUT_OF_MEMORY;
    memset(tables.of_stretch, 0, stretches);
    int failure = classes > 1 ? read_run(&input, stretches, classes, tables.of_stretch) : 0;
    if (!failure) failure = read_tables(&input, (size_t)classes, (int)(distinct << k), tables.slots);
    if (!failure) failure = read_floats(&input, count, layout, width, stretch, k, found, &tables, child);
    free(memory);
    return failure;
}

#endif
