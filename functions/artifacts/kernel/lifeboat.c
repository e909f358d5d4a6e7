/* The two codecs for floats as compiled code: the same bytes as delta.py and planes.py of functions/artifacts/codecs, where the
   formats are written down. C11 with the GCC and Clang built-ins, 64-bit little-endian machines, no dependencies, no state.

   Every function takes whole blocks of at most LIFEBOAT_MOST_NUMBERS numbers. Payloads are hostile: nothing is read or written
   outside what the caller passed, and memory is taken by the number of numbers only, never by what a payload says. Working
   memory: encoding 4 bytes a number, the block's bytes once more and 2 MiB; decoding 4 MiB. */

#include "coding.h"

#define EXPORT __attribute__((visibility("default")))

enum {
    INTERFACE = 1,
    CLASSES = 16,
    INDICES = 64,
    MOST_STRETCH = 512,
    LEAST_MEMBERS = 128,
    SCALES = 65,            /* no change, and one for each highest bit of a mean */
    NARROW_SCALE_BITS = 16, /* for numbers of 1 and 2 bytes */
    WIDE_SCALE_BITS = 4,
    COUNTED_STEP = 4,
    MOST_SAMPLES = 4096,
    MOST_FREQUENT = 8,
    LEAST_FREQUENT = 64,
    MOST_SYMBOL_MANTISSA = 2,
    CHUNK = 4096, /* numbers decoded at a time: a multiple of the lanes, and small enough for the first-level cache */
};

#define LIFEBOAT_MOST_NUMBERS ((size_t)1 << 26)

#define EACH_BYTE UINT64_C(0x0101010101010101)

/* Of tokens.py, by width: the K of its numbers, the first magnitude with extra bits, one more than the largest symbol. */
#define MANTISSA_IN_NUMBER(width) ((width) == 1 ? 7u : (width) == 8 ? 0u : 2u)
#define FIRST_SHIFTED(width) (2u << MANTISSA_IN_NUMBER(width))
#define ALPHABET(width)                                                                                                  \
    ((width) == 1 ? 256u                                                                                                 \
                  : 2 * (((8u * (width) - 1 - MANTISSA_IN_NUMBER(width)) << MANTISSA_IN_NUMBER(width)) + FIRST_SHIFTED(width)) - 1)

enum { UNSIGNED = 0, SIGNED = 1, FLOAT = 2 };

typedef struct {
    int kind, width, exponent_bits, mantissa_bits;
    uint64_t exponent_mask;
} Layout;

/* How bits order: which are flipped always, which under a set sign, and whether residuals turn with the parent's sign. */
typedef struct {
    uint64_t top, flip, align;
} Order;

static Order order_of(const Layout *layout) {
    const Order order = {
        layout->kind == UNSIGNED ? 0 : UINT64_C(1) << (8 * layout->width - 1),
        layout->kind == FLOAT ? UINT64_MAX : 0,
        layout->kind == UNSIGNED ? 0 : UINT64_MAX,
    };
    return order;
}

ALWAYS_INLINE uint64_t load(const uint8_t *data, size_t at, int width) {
    uint64_t value = 0;
    memcpy(&value, data + at * (size_t)width, (size_t)width);
    return value;
}

ALWAYS_INLINE void store(uint8_t *data, size_t at, uint64_t value, int width) {
    memcpy(data + at * (size_t)width, &value, (size_t)width);
}

ALWAYS_INLINE uint64_t ones(int bits) { return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1; }

ALWAYS_INLINE unsigned exponent_of(uint64_t value, const Layout *layout) {
    return (unsigned)((value >> layout->mantissa_bits) & layout->exponent_mask);
}

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

typedef struct {
    uint8_t bounds[CLASSES][INDICES];
    unsigned sizes[CLASSES];
    unsigned classes, number;
} Pools;

static void find_pools(const uint32_t counts[CLASSES][INDICES], unsigned classes, Pools *pools) {
    for (uint32_t least = LEAST_MEMBERS;; least *= 2) {
        pools->classes = classes;
        pools->number = 0;
        for (unsigned class = 0; class < classes; class++) {
            uint32_t members = 0, all = 0;
            unsigned size = 0;
            for (unsigned index = 0; index < INDICES; index++) {
                members += counts[class][index];
                all |= counts[class][index];
                if (members >= least) {
                    pools->bounds[class][size++] = (uint8_t)index;
                    members = 0;
                }
            }
            if (!size && all) size = 1;
            if (size) pools->bounds[class][size - 1] = INDICES - 1;
            pools->sizes[class] = size;
            pools->number += size;
        }
        if (pools->number < MOST_SYMBOLS) return;
    }
}

/* The pool of each cell; zeros for a class without pools, which no number may have. */
static void fill_cells(const Pools *pools, uint8_t cells[CLASSES][INDICES]) {
    unsigned first = 0;
    memset(cells, 0, CLASSES * INDICES);
    for (unsigned class = 0; class < pools->classes; class++) {
        for (unsigned index = 0, pool = 0; index < INDICES && pools->sizes[class]; index++) {
            if (index > pools->bounds[class][pool]) pool++;
            cells[class][index] = (uint8_t)(first + pool);
        }
        first += pools->sizes[class];
    }
}

/* Put the pool of each exponent index in its place. */
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

static void write_pools(Output *output, const Pools *pools) {
    put_byte(output, pools->classes);
    for (unsigned class = 0; class < pools->classes; class++) {
        put_byte(output, pools->sizes[class]);
        put(output, pools->bounds[class], pools->sizes[class]);
    }
}

static int read_pools(Input *input, Pools *pools) {
    const uint8_t *byte = take(input, 1);
    if (!byte || *byte < 1 || *byte > CLASSES) return DAMAGED;
    pools->classes = *byte;
    pools->number = 0;
    for (unsigned class = 0; class < pools->classes; class++) {
        byte = take(input, 1);
        if (!byte || *byte > INDICES) return DAMAGED;
        unsigned size = *byte;
        const uint8_t *bounds = take(input, size);
        if (!bounds || (size && bounds[size - 1] != INDICES - 1)) return DAMAGED;
        for (unsigned at = 1; at < size; at++) {
            if (bounds[at - 1] >= bounds[at]) return DAMAGED;
        }
        memcpy(pools->bounds[class], bounds, size);
        pools->sizes[class] = size;
        pools->number += size;
    }
    return pools->number >= 1 && pools->number < MOST_SYMBOLS ? 0 : DAMAGED;
}

/* What an encoder works in, one allocation. Counts are kept twice: one counter that is raised for each of a run of equal numbers
   would wait for itself. */
typedef struct {
    uint8_t *symbols, *contexts, *classes;
    uint16_t *room;
    uint8_t *extra; /* as large as the block: more extra bits than that cannot pay */
    uint32_t (*counts)[2][MOST_SYMBOLS]; /* of numbers at even and at odd places */
    uint8_t (*codes)[MOST_SYMBOLS];
    Coding (*codings)[MOST_SYMBOLS];
} Workspace;

static void *open_workspace(Workspace *work, size_t count, size_t stretches, size_t bytes) {
    size_t tables = MOST_SYMBOLS;
    size_t sizes[] = {tables * sizeof *work->codings, tables * sizeof *work->counts, tables * sizeof *work->codes,
                      (count + WORDS_BEFORE) * sizeof *work->room, count, count, stretches, bytes};
    size_t total = 0;
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) total += (sizes[at] + 63) & ~(size_t)63;
    uint8_t *memory = malloc(total);
    if (!memory) return NULL;
    uint8_t *parts[sizeof sizes / sizeof *sizes], *next = memory;
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        parts[at] = next;
        next += (sizes[at] + 63) & ~(size_t)63;
    }
    work->codings = (void *)parts[0];
    work->counts = (void *)parts[1];
    work->codes = (void *)parts[2];
    work->room = (void *)parts[3];
    work->symbols = parts[4];
    work->contexts = parts[5];
    work->classes = parts[6];
    work->extra = parts[7];
    return memory;
}

/* Count symbols by context, write the tables and the symbols, then the extra bits. */
static void write_coded(Output *output, const Workspace *work, size_t count, size_t tables, const Output *extra) {
    memset(work->counts, 0, tables * sizeof *work->counts);
    for (size_t at = 0; at < count; at++) work->counts[work->contexts[at]][at & 1][work->symbols[at]]++;
    for (size_t table = 0; table < tables; table++) {
        uint16_t frequencies[MOST_SYMBOLS];
        uint32_t *counts = work->counts[table][0];
        for (int symbol = 0; symbol < MOST_SYMBOLS; symbol++) counts[symbol] += work->counts[table][1][symbol];
        codes_of_counts(counts, work->codes[table]);
        frequencies_of_codes(work->codes[table], frequencies);
        fill_codings(frequencies, work->codings[table]);
    }
    write_tables(output, (const uint8_t (*)[MOST_SYMBOLS])work->codes, tables);
    write_symbols(output, work->symbols, work->contexts, count, work->codings[0], work->room);
    put(output, extra->data, extra->size);
    if (extra->failed) output->failed = 1;
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

/* Room for classes and slots that a decoder works in. */
typedef struct {
    uint8_t *classes;
    uint32_t *slots;
} Tables;

static void *open_tables(Tables *tables, size_t stretches, size_t number) {
    size_t slot_bytes = number * TOTAL * sizeof *tables->slots;
    uint8_t *memory = malloc(slot_bytes + stretches);
    tables->slots = (void *)memory;
    tables->classes = memory ? memory + slot_bytes : NULL;
    return memory;
}

#define NUMBER uint8_t
#define WIDTH 1
#include "numbers.h"
#define NUMBER uint16_t
#define WIDTH 2
#include "numbers.h"
#define NUMBER uint32_t
#define WIDTH 4
#include "numbers.h"
#define NUMBER uint64_t
#define WIDTH 8
#include "numbers.h"

/* Calls the function of numbers.h that belongs to a width. */
#define FOR_WIDTH(width, name, ...)     \
    ((width) == 1   ? name##_1(__VA_ARGS__) \
     : (width) == 2 ? name##_2(__VA_ARGS__) \
     : (width) == 4 ? name##_4(__VA_ARGS__) \
                    : name##_8(__VA_ARGS__))

static int64_t encode_delta(const uint8_t *child, const uint8_t *parent, size_t count, const Layout *layout, size_t stretch,
                            uint8_t *payload, size_t capacity) {
    const int width = layout->width;
    const Order order = order_of(layout);
    size_t stretches = (count + stretch - 1) / stretch;
    Workspace work;
    void *memory = open_workspace(&work, count, stretches, count * (size_t)width);
    if (!memory) return OUT_OF_MEMORY;
    uint64_t frequent[MOST_FREQUENT] = {0};
    int favourites = FOR_WIDTH(width, find_frequent, child, parent, count, &order, frequent);
    Output extra = {work.extra, 0, count * (size_t)width, 0};
    BitWriter writer = {&extra, 0, 0};
    static const uint32_t none[INDICES];
    uint32_t members[SCALES][INDICES];
    memset(members, 0, sizeof members);
    FOR_WIDTH(width, split_numbers, child, parent, count, layout, &order, stretch, frequent, favourites, &work, &writer, members);
    finish_fields(&writer);

    unsigned largest = SCALES - 1;
    while (largest > 1 && !memcmp(members[largest], none, sizeof none)) largest--;
    uint8_t class_of[SCALES] = {0};
    uint32_t counts[CLASSES][INDICES] = {{0}};
    unsigned classes = 1;
    for (unsigned scale = 0; scale <= largest; scale++) {
        if (scale) class_of[scale] = (uint8_t)(scale + CLASSES - 1 > largest + 1 ? scale + CLASSES - 1 - largest : 1);
        if (!memcmp(members[scale], none, sizeof none)) continue;
        classes = class_of[scale] + 1u;
        for (unsigned index = 0; index < INDICES; index++) counts[class_of[scale]][index] += members[scale][index];
    }
    Pools pools;
    uint8_t cells[CLASSES][INDICES];
    find_pools((const uint32_t (*)[INDICES])counts, classes, &pools);
    fill_cells(&pools, cells);
    for (size_t row = 0, begin = 0; row < stretches; row++, begin += stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch;
        unsigned class = class_of[work.classes[row]];
        work.classes[row] = (uint8_t)class;
        map_indices(cells[class], work.contexts + begin, end - begin);
    }

    Output output = {payload, 0, capacity, 0};
    uint16_t stretch_field = (uint16_t)stretch;
    put(&output, &stretch_field, 2);
    put_byte(&output, (unsigned)favourites);
    for (int place = 0; place < favourites; place++) put(&output, &frequent[place], (size_t)width);
    write_pools(&output, &pools);
    int failure = pools.classes > 1 ? write_run(&output, work.classes, stretches) : 0;
    if (!failure) write_coded(&output, &work, count, pools.number, &extra);
    free(memory);
    if (failure) return failure;
    return output.failed ? NO_ROOM : (int64_t)output.size;
}

static int64_t decode_delta(const uint8_t *payload, size_t size, const uint8_t *parent, size_t count, const Layout *layout,
                            uint8_t *child) {
    const int width = layout->width;
    const Order order = order_of(layout);
    Input input = {payload, size};
    const uint8_t *head = take(&input, 3);
    if (!head) return DAMAGED;
    size_t stretch = head[0] | (size_t)head[1] << 8;
    int favourites = head[2];
    const uint8_t *frequent = take(&input, (size_t)favourites * (size_t)width);
    Pools pools;
    if (stretch < 1 || stretch > MOST_STRETCH || favourites > MOST_FREQUENT || !frequent) return DAMAGED;
    if (read_pools(&input, &pools)) return DAMAGED;
    size_t stretches = (count + stretch - 1) / stretch;
    Tables tables;
    void *memory = open_tables(&tables, stretches, pools.number);
    if (!memory) return OUT_OF_MEMORY;
    memset(tables.classes, 0, stretches);
    int failure = pools.classes > 1 ? read_run(&input, stretches, (int)pools.classes, tables.classes) : 0;
    for (size_t row = 0; row < stretches && !failure; row++) {
        if (!pools.sizes[tables.classes[row]]) failure = DAMAGED;
    }
    int alphabet = (int)ALPHABET(width) + favourites;
    if (!failure) failure = read_tables(&input, pools.number, alphabet < MOST_SYMBOLS ? alphabet : MOST_SYMBOLS, tables.slots);
    if (!failure) {
        Meaning meanings[MOST_SYMBOLS];
        fill_meanings(meanings, width, frequent, favourites);
        failure = FOR_WIDTH(width, decode_numbers, &input, parent, count, layout, &order, stretch, &pools, &tables, meanings,
                            child);
    }
    free(memory);
    return failure;
}

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

ALWAYS_INLINE int64_t encode_floats(const uint8_t *child, size_t count, const Layout *layout, size_t stretch, uint8_t *payload,
                                    size_t capacity, int width) {
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
    void *memory = open_workspace(&work, count, stretches, count * (size_t)width + 8);
    uint32_t *means = memory ? malloc(stretches * sizeof *means) : NULL;
    if (!means) {
        free(memory);
        return OUT_OF_MEMORY;
    }
    Output extra = {work.extra, 0, count * (size_t)width + 8, 0};
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
        work.classes[row] = (uint8_t)class;
        classes = class + 1 > classes ? class + 1 : classes;
        memset(work.contexts + begin, (int)class, end - begin);
    }
    free(means);

    Output output = {payload, 0, capacity, 0};
    uint16_t stretch_field = (uint16_t)stretch;
    put(&output, &stretch_field, 2);
    put(&output, present, exponents / 8);
    put_byte(&output, (unsigned)k);
    put_byte(&output, classes);
    int failure = classes > 1 ? write_run(&output, work.classes, stretches) : 0;
    if (!failure) write_coded(&output, &work, count, classes, &extra);
    free(memory);
    if (failure) return failure;
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
            memset(contexts + at, tables->classes[row], run);
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
    memset(tables.classes, 0, stretches);
    int failure = classes > 1 ? read_run(&input, stretches, classes, tables.classes) : 0;
    if (!failure) failure = read_tables(&input, (size_t)classes, (int)(distinct << k), tables.slots);
    if (!failure) failure = read_floats(&input, count, layout, width, stretch, k, found, &tables, child);
    free(memory);
    return failure;
}

static int is_possible(size_t count, const Layout *layout) {
    if (count < 1 || count > LIFEBOAT_MOST_NUMBERS || layout->kind < UNSIGNED || layout->kind > FLOAT) return 0;
    if (layout->exponent_bits < 0 || layout->exponent_bits > 11 || layout->mantissa_bits < 0) return 0;
    int bits = 8 * layout->width;
    if (bits != 8 && bits != 16 && bits != 32 && bits != 64) return 0;
    return layout->kind == FLOAT ? layout->exponent_bits > 2 && 1 + layout->exponent_bits + layout->mantissa_bits == bits
                                 : !layout->exponent_bits && !layout->mantissa_bits;
}

/* Calls a function with the width as a constant, so that the compiler makes a version for each. */
#define WITH_WIDTH(width, name, ...)           \
    ((width) == 1   ? name(__VA_ARGS__, 1)     \
     : (width) == 2 ? name(__VA_ARGS__, 2)     \
     : (width) == 4 ? name(__VA_ARGS__, 4)     \
                    : name(__VA_ARGS__, 8))

static Layout layout_of(int kind, int width, int exponent_bits, int mantissa_bits) {
    const Layout layout = {kind, width, exponent_bits, mantissa_bits, ones(exponent_bits & 31)};
    return layout;
}

/* Which interface this is: a loader refuses a library of another. */
EXPORT int64_t lifeboat_interface(void) { return INTERFACE; }

EXPORT int64_t lifeboat_delta_encode(const uint8_t *child, const uint8_t *parent, size_t count, int kind, int width,
                                     int exponent_bits, int mantissa_bits, size_t stretch, uint8_t *payload, size_t capacity) {
    const Layout layout = layout_of(kind, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout) || stretch < 1 || stretch > MOST_STRETCH) return DAMAGED;
    return encode_delta(child, parent, count, &layout, stretch, payload, capacity);
}

EXPORT int64_t lifeboat_delta_decode(const uint8_t *payload, size_t size, const uint8_t *parent, size_t count, int kind,
                                     int width, int exponent_bits, int mantissa_bits, uint8_t *child) {
    const Layout layout = layout_of(kind, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout)) return DAMAGED;
    return decode_delta(payload, size, parent, count, &layout, child);
}

EXPORT int64_t lifeboat_floats_encode(const uint8_t *child, size_t count, int width, int exponent_bits, int mantissa_bits,
                                      size_t stretch, uint8_t *payload, size_t capacity) {
    const Layout layout = layout_of(FLOAT, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout) || stretch < 1 || stretch > MOST_STRETCH) return DAMAGED;
    return WITH_WIDTH(width, encode_floats, child, count, &layout, stretch, payload, capacity);
}

EXPORT int64_t lifeboat_floats_decode(const uint8_t *payload, size_t size, size_t count, int width, int exponent_bits,
                                      int mantissa_bits, uint8_t *child) {
    const Layout layout = layout_of(FLOAT, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout)) return DAMAGED;
    return WITH_WIDTH(width, decode_floats, payload, size, count, &layout, child);
}

/* The ends of the chunks of chunks.py; their number, or NO_ROOM if there are more than fit. */
EXPORT int64_t lifeboat_cuts(const uint8_t *data, size_t size, const uint8_t *gear, int bits, size_t least, size_t most,
                             uint64_t *ends, size_t room) {
    uint32_t hash = 0;
    size_t found = 0, begin = 0;
    if (bits < 1 || bits > 32) return DAMAGED;
    for (size_t end = 1; end <= size; end++) {
        hash = (hash << 1) + (uint32_t)load(gear, data[end - 1], 4);
        int may = !(hash >> (32 - bits)) && end - begin >= least;
        if (!may && end - begin != most && end != size) continue;
        if (found == room) return NO_ROOM;
        ends[found++] = end;
        begin = end;
    }
    return (int64_t)found;
}
