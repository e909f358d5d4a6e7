/* Loops over numbers of one width: included once for each, with NUMBER (its unsigned type), WIDTH (its bytes) and SUM (a signed
   type that counts a stretch) defined. Without
   branches and calls, so that compilers make vector code of them. */

#define JOIN_(name, width) name##_##width
#define JOIN(name, width) JOIN_(name, width)
#define NAMED(name) JOIN(name, WIDTH)

/* Numbers come from anywhere in a file. */
typedef NUMBER __attribute__((aligned(1), may_alias)) NAMED(Loose);

/* All bits set if the top bit is, else zero. */
ALWAYS_INLINE NUMBER NAMED(sign_mask)(NUMBER value) { return (NUMBER)(0 - (value >> (8 * WIDTH - 1))); }

ALWAYS_INLINE NUMBER NAMED(difference)(NUMBER child, NUMBER parent, const Order *order) {
    const NUMBER top = (NUMBER)order->top, flip = (NUMBER)order->flip;
    return (NUMBER)((child ^ (top | (NAMED(sign_mask)(child) & flip))) - (parent ^ (top | (NAMED(sign_mask)(parent) & flip))));
}

ALWAYS_INLINE NUMBER NAMED(turned)(NUMBER number, NUMBER mask) { return (NUMBER)((number ^ mask) - mask); }

ALWAYS_INLINE NUMBER NAMED(magnitude)(NUMBER residual) { return NAMED(turned)(residual, NAMED(sign_mask)(residual)); }

/* The largest finite exponent in every eighth stretch. */
static unsigned NAMED(reference)(const uint8_t *parent, size_t count, const Layout *layout, size_t stretch) {
    const NAMED(Loose) *numbers = (const void *)parent;
    /* In place, as a shift by a variable keeps compilers from vector code for narrow numbers; and one more than it is, so that
       all ones become zero. */
    const NUMBER most = (NUMBER)(layout->exponent_mask << layout->mantissa_bits);
    const NUMBER one = (NUMBER)((UINT64_C(1) << layout->mantissa_bits) & most);
    NUMBER found = 0;
    for (size_t begin = 0; begin < count; begin += REFERENCE_STEP * stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch;
        for (size_t at = begin; at < end; at++) {
            NUMBER exponent = (NUMBER)((numbers[at] & most) + one) & most;
            found = exponent > found ? exponent : found;
        }
    }
    return found ? (unsigned)((NUMBER)(found - one) >> layout->mantissa_bits) : 0;
}

ALWAYS_INLINE void NAMED(indices_of)(const uint8_t *parent, size_t count, NUMBER most, NUMBER top, int low, uint8_t *indices) {
    const NAMED(Loose) *numbers = (const void *)parent;
    for (size_t at = 0; at < count; at++) {
        NUMBER exponent = (NUMBER)(numbers[at] >> low) & most;
        NUMBER distance = exponent > top ? 0 : (NUMBER)(top - exponent);
        indices[at] = (uint8_t)(INDICES - 1 - (distance < INDICES ? distance : INDICES - 1));
    }
}

/* The exponent index of each number. */
static void NAMED(indices)(const uint8_t *parent, size_t count, const Layout *layout, unsigned reference, uint8_t *indices) {
    const NUMBER most = (NUMBER)layout->exponent_mask, top = (NUMBER)reference;
    const int low = layout->mantissa_bits;
    if (!most) {
        memset(indices, 0, count);
    } else if (WIDTH == 2 && low == 7) {
        /* Narrow numbers have no vector shift by a variable, so BF16's is written out. */
        NAMED(indices_of)(parent, count, most, top, 7, indices);
    } else {
        NAMED(indices_of)(parent, count, most, top, low, indices);
    }
}

/* Differences and their magnitudes; how many more went up than down, and how many changed. */
static void NAMED(differences)(const uint8_t *child, const uint8_t *parent, size_t count, const Order *order,
                               NUMBER *restrict changes, NUMBER *restrict magnitudes, Tally *tally) {
    const NAMED(Loose) *children = (const void *)child, *parents = (const void *)parent;
    const Order copy = *order;
    SUM balance = 0, aligned = 0, changed = 0;
    for (size_t at = 0; at < count; at++) {
        NUMBER change = NAMED(difference)(children[at], parents[at], &copy);
        NUMBER mask = NAMED(sign_mask)(parents[at]) & (NUMBER)copy.align;
        SUM some = change != 0, sign = (SUM)(some - 2 * (SUM)(change >> (8 * WIDTH - 1)));
        changes[at] = change;
        magnitudes[at] = NAMED(magnitude)(change);
        changed = (SUM)(changed + some);
        balance = (SUM)(balance + sign);
        aligned = (SUM)(aligned + ((sign ^ (SUM)-(SUM)(mask & 1)) + (SUM)(mask & 1)));
    }
    *tally = (Tally){(int)balance, (int)aligned, (int)changed};
}

/* Turn differences to residuals, and fill symbols that are right below the first with extra bits, and that one or above else. */
static void NAMED(residuals)(NUMBER *restrict changes, const NUMBER *restrict magnitudes, const uint8_t *parent, size_t count,
                             Turn turn, uint8_t *restrict symbols) {
    const NAMED(Loose) *parents = (const void *)parent;
    const NUMBER with = (NUMBER)turn.with, against = (NUMBER)turn.against;
    for (size_t at = 0; at < count; at++) {
        changes[at] = NAMED(turned)(changes[at], (NUMBER)((NAMED(sign_mask)(parents[at]) & with) ^ against));
    }
    for (size_t at = 0; at < count; at++) {
#if WIDTH == 1
        NUMBER bounded = magnitudes[at];
#else
        NUMBER bounded = magnitudes[at] < FIRST_SHIFTED(WIDTH) ? magnitudes[at] : FIRST_SHIFTED(WIDTH);
#endif
        symbols[at] = (uint8_t)(2 * bounded - (changes[at] >> (8 * WIDTH - 1)));
    }
}

/* The sum of the magnitudes at the scale of the reference exponent. */
static uint64_t NAMED(scaled_sum)(const NUMBER *magnitudes, const uint8_t *indices, size_t count, int integers) {
    const unsigned bits = WIDTH < 4 ? NARROW_SCALE_BITS : WIDE_SCALE_BITS;
    const NUMBER most = (NUMBER)(WIDTH < 4 ? UINT16_MAX : UINT32_MAX >> WIDE_SCALE_BITS);
    const unsigned none = integers ? 0 : INDICES - 1;
    uint64_t sum = 0;
    for (size_t at = 0; at < count; at++) {
        uint32_t bounded = (uint32_t)(magnitudes[at] < most ? magnitudes[at] : most) << bits;
        uint32_t distance = none - indices[at];
        sum += bounded >> (distance < 31 ? distance : 31);
    }
    return sum;
}

/* The children of parents with these residuals. */
static void NAMED(children)(const NUMBER *restrict residuals, const uint8_t *restrict parent, size_t count, const Order *order,
                            Turn turn, uint8_t *restrict child) {
    NAMED(Loose) *children = (void *)child;
    const NAMED(Loose) *parents = (const void *)parent;
    const NUMBER top = (NUMBER)order->top, flip = (NUMBER)order->flip, with = (NUMBER)turn.with, against = (NUMBER)turn.against;
    for (size_t at = 0; at < count; at++) {
        NUMBER sign = NAMED(sign_mask)(parents[at]);
        NUMBER value = (NUMBER)((parents[at] ^ (top | (sign & flip))) + NAMED(turned)(residuals[at], (sign & with) ^ against));
        children[at] = value ^ (top | ((NUMBER)~NAMED(sign_mask)(value) & flip));
    }
}

/* Write the symbol of a number that has extra bits, and these bits. */
ALWAYS_INLINE void NAMED(write_extra)(NUMBER residual, uint64_t magnitude, const uint64_t *frequent, int favourites,
                                      uint8_t *symbol, BitWriter *writer) {
    unsigned shift = highest_bit(magnitude) - MANTISSA_IN_NUMBER(WIDTH);
    unsigned number = (unsigned)((shift << MANTISSA_IN_NUMBER(WIDTH)) + (magnitude >> shift));
    *symbol = (uint8_t)(2 * number - (unsigned)(residual >> (8 * WIDTH - 1)));
    for (int place = 0; place < favourites; place++) {
        if (frequent[place] != residual) continue;
        *symbol = (uint8_t)(ALPHABET(WIDTH) + (unsigned)place);
        return;
    }
    put_field(writer, magnitude & ((UINT64_C(1) << shift) - 1), shift);
}

/* The same for all numbers of a stretch that have extra bits. */
static void NAMED(write_extras)(const NUMBER *residuals, const NUMBER *magnitudes, size_t count, const uint64_t *frequent,
                                int favourites, uint8_t *symbols, BitWriter *writer) {
    const uint64_t least = FIRST_SHIFTED(WIDTH);
    size_t first = 0;
    for (; first + 8 <= count; first += 8) {
        /* The top bit of each byte that is at least the first symbol with extra bits; none is above twice 16. */
        uint64_t marks, eight;
        memcpy(&eight, symbols + first, 8);
        marks = (eight + EACH_BYTE * (128 - 2 * FIRST_SHIFTED(WIDTH) + 1)) & (EACH_BYTE * 128);
        for (; marks; marks &= marks - 1) {
            size_t at = first + (size_t)(__builtin_ctzll(marks) >> 3);
            NAMED(write_extra)(residuals[at], magnitudes[at], frequent, favourites, symbols + at, writer);
        }
    }
    for (; first < count; first++) {
        if (magnitudes[first] < least) continue;
        NAMED(write_extra)(residuals[first], magnitudes[first], frequent, favourites, symbols + first, writer);
    }
}

/* Fill symbols, exponent indices (as contexts), rows, counts of cells and extra bits. */
static void NAMED(split_numbers)(const uint8_t *child, const uint8_t *parent, size_t count, const Layout *layout,
                                 const Order *order, size_t stretch, unsigned reference, const uint64_t *frequent,
                                 int favourites, Workspace *work, BitWriter *writer) {
    NUMBER changes[MOST_STRETCH], magnitudes[MOST_STRETCH];
    Row *rows = (void *)work->rows;
    for (size_t begin = 0, row = 0; begin < count; begin += stretch, row++) {
        size_t number = count - begin < stretch ? count - begin : stretch;
        uint8_t *symbols = work->symbols + begin, *indices = work->contexts + begin;
        const uint8_t *parents = parent + begin * WIDTH;
        Tally tally;
        NAMED(differences)(child + begin * WIDTH, parents, number, order, changes, magnitudes, &tally);
        NAMED(indices)(parents, number, layout, reference, indices);
        uint64_t sum = NAMED(scaled_sum)(magnitudes, indices, number, !layout->exponent_mask);
        rows[row].scale = (uint8_t)(tally.changed ? 1 + highest_bit(sum / number) : 0);
        rows[row].direction = (uint8_t)direction_of(&tally);
        NAMED(residuals)(changes, magnitudes, parents, number, turn_of(rows[row].direction, order), symbols);
        if (WIDTH > 1) NAMED(write_extras)(changes, magnitudes, number, frequent, favourites, symbols, writer);
        count_cells(work->cells, rows[row], symbols, indices, number);
    }
}

/* The most frequent residuals with extra bits, the most frequent first, ties by value; their number. */
static int NAMED(find_frequent)(const uint8_t *child, const uint8_t *parent, size_t count, const Order *order,
                                uint64_t frequent[MOST_FREQUENT]) {
    if (WIDTH < 4) return 0;
    const NAMED(Loose) *children = (const void *)child, *parents = (const void *)parent;
    uint64_t samples[MOST_SAMPLES];
    size_t number = 0, step = (count + MOST_SAMPLES - 1) / MOST_SAMPLES;
    for (size_t at = 0; at < count; at += step) {
        NUMBER mask = NAMED(sign_mask)(parents[at]) & (NUMBER)order->align;
        NUMBER residual = NAMED(turned)(NAMED(difference)(children[at], parents[at], order), mask);
        if (NAMED(magnitude)(residual) >= FIRST_SHIFTED(WIDTH)) samples[number++] = residual;
    }
    return most_frequent(samples, number, frequent);
}

/* The residual of a symbol and the extra bits that belong to it. */
ALWAYS_INLINE int NAMED(read_extra)(Meaning meaning, BitReader *extra, NUMBER *residual) {
    uint64_t bits;
    if (!get_field(extra, meaning.shift, &bits)) return DAMAGED;
    *residual = (NUMBER)(meaning.negative ? meaning.base - bits : meaning.base + bits);
    return 0;
}

/* Turn symbols, and the extra bits that belong to them, into residuals. */
static int NAMED(join_numbers)(const uint8_t *symbols, size_t count, const Meaning *meanings, BitReader *extra,
                               NUMBER *residuals) {
    if (WIDTH >= 4) {
        /* Most have extra bits. */
        for (size_t at = 0; at < count; at++) {
            if (NAMED(read_extra)(meanings[symbols[at]], extra, residuals + at)) return DAMAGED;
        }
        return 0;
    }
    if (WIDTH == 1) {
        for (size_t at = 0; at < count; at++) residuals[at] = (NUMBER)meanings[symbols[at]].base;
        return 0;
    }
    /* What is right below the first symbol with extra bits, and nearly all are. */
    for (size_t at = 0; at < count; at++) {
        NUMBER half = (NUMBER)(((unsigned)symbols[at] + 1) >> 1), mask = (NUMBER)(0 - (symbols[at] & 1));
        residuals[at] = (NUMBER)((half ^ mask) - mask);
    }
    size_t first = 0;
    for (; first + 8 <= count; first += 8) {
        uint64_t eight, marks;
        memcpy(&eight, symbols + first, 8);
        /* As in write_extras, but symbols reach up to 255 here: those with the top bit set are marked by it. */
        marks = ((eight & (EACH_BYTE * 127)) + EACH_BYTE * (128 - 2 * FIRST_SHIFTED(WIDTH) + 1)) | eight;
        for (marks &= EACH_BYTE * 128; marks; marks &= marks - 1) {
            size_t at = first + (size_t)(__builtin_ctzll(marks) >> 3);
            if (NAMED(read_extra)(meanings[symbols[at]], extra, residuals + at)) return DAMAGED;
        }
    }
    for (; first < count; first++) {
        if (NAMED(read_extra)(meanings[symbols[first]], extra, residuals + first)) return DAMAGED;
    }
    return 0;
}

static int NAMED(decode_numbers)(Input *input, const uint8_t *parent, size_t count, const Layout *layout, const Order *order,
                                 size_t stretch, unsigned reference, const Contexts *known, const Tables *tables,
                                 const Meaning *meanings, uint8_t *child) {
    uint8_t contexts[CHUNK], symbols[CHUNK];
    NUMBER residuals[CHUNK];
    SymbolReader reader;
    if (open_symbols(input, count, &reader)) return DAMAGED;
    BitReader extra = {input->data, 0, (uint64_t)input->size * 8};
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        size_t number = count - begin < CHUNK ? count - begin : CHUNK, run;
        NAMED(indices)(parent + begin * WIDTH, number, layout, reference, contexts);
        /* The next chunk comes into the cache while this one is read. */
        for (size_t ahead = begin + CHUNK; ahead < begin + 2 * CHUNK && ahead < count; ahead += 64 / WIDTH) {
            __builtin_prefetch(parent + ahead * WIDTH);
        }
        for (size_t at = 0; at < number; at += run) {
            run = left_of_stretch(begin + at, stretch, number - at);
            map_indices(known->tables[group_of(tables->of_stretch[(begin + at) / stretch])], contexts + at, run);
        }
        if (read_symbols(&reader, contexts, number, tables->slots, symbols)) return DAMAGED;
        if (NAMED(join_numbers)(symbols, number, meanings, &extra, residuals)) return DAMAGED;
        for (size_t at = 0; at < number; at += run) {
            run = left_of_stretch(begin + at, stretch, number - at);
            const Turn turn = turn_of(tables->of_stretch[(begin + at) / stretch] % DIRECTIONS, order);
            const size_t first = (begin + at) * WIDTH;
            NAMED(children)(residuals + at, parent + first, run, order, turn, child + first);
        }
    }
    if (close_symbols(&reader) || !rest_is_zero(&extra)) return DAMAGED;
    return (extra.position + 7) / 8 == input->size ? 0 : DAMAGED;
}

#undef NAMED
#undef JOIN
#undef JOIN_
#undef NUMBER
#undef WIDTH
#undef SUM
