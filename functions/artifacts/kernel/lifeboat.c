/* The two codecs for floats as compiled code: the same bytes as delta.py and planes.py of functions/artifacts/codecs, where the
   formats are written down. C11 with the GCC and Clang built-ins, 64-bit little-endian machines, no dependencies, no state.

   Every function takes whole blocks of at most LIFEBOAT_MOST_NUMBERS numbers. Payloads are hostile: nothing is read or written
   outside what the caller passed, and memory is taken by the number of numbers only, never by what a payload says. */

#include "delta.h"
#include "floats.h"

#define EXPORT __attribute__((visibility("default")))

enum { INTERFACE = 2 };

#define LIFEBOAT_MOST_NUMBERS ((size_t)1 << 26)

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

/* How many bytes an encoder of blocks of so many numbers works in. They are zero before the first block, and left alone after. */
EXPORT int64_t lifeboat_workspace(size_t count, int width) {
    Workspace work;
    return count > LIFEBOAT_MOST_NUMBERS ? DAMAGED : (int64_t)place_workspace(&work, NULL, count, (size_t)width, 1);
}

EXPORT int64_t lifeboat_delta_encode(const uint8_t *child, const uint8_t *parent, size_t count, int kind, int width,
                                     int exponent_bits, int mantissa_bits, size_t stretch, uint8_t *memory,
                                     uint8_t *payload, size_t capacity) {
    const Layout layout = layout_of(kind, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout) || stretch < 1 || stretch > MOST_STRETCH) return DAMAGED;
    return encode_delta(child, parent, count, &layout, stretch, memory, payload, capacity);
}

EXPORT int64_t lifeboat_delta_decode(const uint8_t *payload, size_t size, const uint8_t *parent, size_t count, int kind,
                                     int width, int exponent_bits, int mantissa_bits, uint8_t *child) {
    const Layout layout = layout_of(kind, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout)) return DAMAGED;
    return decode_delta(payload, size, parent, count, &layout, child);
}

EXPORT int64_t lifeboat_floats_encode(const uint8_t *child, size_t count, int width, int exponent_bits, int mantissa_bits,
                                      size_t stretch, uint8_t *memory, uint8_t *payload, size_t capacity) {
    const Layout layout = layout_of(FLOAT, width, exponent_bits, mantissa_bits);
    if (!is_possible(count, &layout) || stretch < 1 || stretch > MOST_STRETCH) return DAMAGED;
    return WITH_WIDTH(width, encode_floats, child, count, &layout, stretch, memory, payload, capacity);
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
