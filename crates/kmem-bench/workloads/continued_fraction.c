/* Numbers of any length, each of them a new object: the continued fraction of a square root and its convergents, as in
 * programs that factor numbers with it (cfrac). Millions of tiny, short-lived objects. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* A natural number, least significant limb first, without leading zeros. */
struct number { int length; uint32_t limbs[]; };

static struct number *make(int length) {
    struct number *number = take(sizeof *number + length * sizeof(uint32_t));
    number->length = length;
    return number;
}

static struct number *trimmed(struct number *number) {
    while (number->length && !number->limbs[number->length - 1]) number->length--;
    return number;
}

static struct number *small(uint32_t value) {
    struct number *number = make(1);
    number->limbs[0] = value;
    return trimmed(number);
}

static struct number *times_plus(const struct number *a, uint32_t factor, const struct number *b) {
    int length = (a->length > b->length ? a->length : b->length) + 1;
    struct number *result = make(length);
    uint64_t carry = 0;
    for (int i = 0; i < length; i++) {
        carry += i < a->length ? (uint64_t)a->limbs[i] * factor : 0;
        carry += i < b->length ? b->limbs[i] : 0;
        result->limbs[i] = carry;
        carry >>= 32;
    }
    return trimmed(result);
}

/* The remainder by a small number: each step of the division creates a number, as in naive code. */
static uint32_t remainder_by(const struct number *number, uint32_t divisor) {
    uint64_t remainder = 0;
    for (int i = number->length; i-- > 0;) {
        struct number *step = small(number->limbs[i]);
        remainder = (remainder << 32 | (step->length ? step->limbs[0] : 0)) % divisor;
        free(step);
    }
    return remainder;
}

static long operations;

/* The square root of `radicand`: its partial quotients repeat, its convergents grow. */
static uint32_t convergents(uint64_t radicand, int steps) {
    uint64_t root = 1;
    while ((root + 1) * (root + 1) <= radicand) root++;
    struct number *before = small(1), *now = small(root);
    uint64_t m = 0, d = 1, a = root;
    uint32_t check = 0;
    for (int step = 0; step < steps; step++) {
        m = d * a - m;
        d = (radicand - m * m) / d;
        a = (root + m) / d;
        struct number *next = times_plus(now, a, before);
        free(before);
        before = now;
        now = next;
        check = check * 31 + remainder_by(now, 1000003);
        operations += 1 + now->length;
    }
    free(before);
    free(now);
    return check;
}

static void all(void *state) {
    operations = 0;
    for (long i = 0; i < *(long *)state; i++) used((void *)(uintptr_t)convergents(1000003 + 2 * i * i, 150));
}

void continued_fraction(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(400, 40);
    all(&count);
    measure("", 4, operations, all, &count);
}
