/* What this processor computes, with its flags: the SSE and AVX instructions over arrays of codes.

   A function takes the codes of its operands in arrays of 64-bit words, the MXCSR to run under (rounding in bits 13 and
   14, FTZ bit 15, DAZ bit 6), and gives codes and the six exception bits of MXCSR for each element. Volatile assembly
   keeps each instruction between the setting and the reading of MXCSR. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define MASKED 0x1f80u

#define LOOP(NAME, TYPE, WORD, ...)                                                                                    \
    void NAME(long n, unsigned mxcsr, const uint64_t *a, const uint64_t *b, const uint64_t *c, uint64_t *out,          \
              uint8_t *flags) {                                                                                        \
        unsigned before = _mm_getcsr();                                                                                \
        for (long i = 0; i < n; i++) {                                                                                 \
            WORD wa = (WORD)a[i], wb = (WORD)b[i], wc = (WORD)c[i];                                                    \
            TYPE x, y, z;                                                                                              \
            memcpy(&x, &wa, sizeof x);                                                                                 \
            memcpy(&y, &wb, sizeof y);                                                                                 \
            memcpy(&z, &wc, sizeof z);                                                                                 \
            uint64_t result = 0;                                                                                       \
            (void)y, (void)z;                                                                                          \
            _mm_setcsr(MASKED | mxcsr);                                                                                \
            __VA_ARGS__;                                                                                               \
            flags[i] = _mm_getcsr() & 0x3f;                                                                            \
            out[i] = result;                                                                                           \
        }                                                                                                              \
        _mm_setcsr(before);                                                                                            \
    }

#define KEEP(VALUE) memcpy(&result, &(VALUE), sizeof(VALUE))

#define BINARY(NAME, TYPE, WORD, INSTRUCTION)                                                                          \
    LOOP(NAME, TYPE, WORD, __asm__ volatile(INSTRUCTION " %1, %0" : "+x"(x) : "x"(y)); KEEP(x))

#define UNARY(NAME, TYPE, WORD, INSTRUCTION)                                                                           \
    LOOP(NAME, TYPE, WORD, __asm__ volatile(INSTRUCTION " %1, %0" : "=x"(y) : "x"(x)); KEEP(y))

#define NARROWING(NAME, TYPE, WORD, OTHER, INSTRUCTION)                                                                \
    LOOP(NAME, TYPE, WORD, OTHER r; __asm__ volatile(INSTRUCTION " %1, %0" : "=x"(r) : "x"(x)); KEEP(r))

#define TO_INTEGER(NAME, TYPE, WORD, OTHER, INSTRUCTION)                                                               \
    LOOP(NAME, TYPE, WORD, OTHER r; __asm__ volatile(INSTRUCTION " %1, %0" : "=r"(r) : "x"(x)); result = r)

#define OF_TYPE(P, TYPE, WORD, S)                                                                                      \
    BINARY(P##add, TYPE, WORD, "add" S)                                                                                \
    BINARY(P##sub, TYPE, WORD, "sub" S)                                                                                \
    BINARY(P##mul, TYPE, WORD, "mul" S)                                                                                \
    BINARY(P##div, TYPE, WORD, "div" S)                                                                                \
    UNARY(P##sqrt, TYPE, WORD, "sqrt" S)                                                                               \
    UNARY(P##round_to_integral_exact, TYPE, WORD, "round" S " $4,")                                                    \
    UNARY(P##round_to_integral, TYPE, WORD, "round" S " $12,")                                                         \
    LOOP(P##fma, TYPE, WORD, __asm__ volatile("vfmadd213" S " %2, %1, %0" : "+x"(y) : "x"(x), "x"(z)); KEEP(y))        \
    TO_INTEGER(P##to_i32, TYPE, WORD, uint32_t, "cvt" S "2sil")                                                        \
    TO_INTEGER(P##to_i64, TYPE, WORD, uint64_t, "cvt" S "2siq")                                                        \
    LOOP(P##compare, TYPE, WORD, unsigned char above, parity; __asm__ volatile("ucomi" S " %3, %2\n\tseta %0\n\tsetp %1" \
         : "=r"(above), "=r"(parity) : "x"(x), "x"(y) : "cc"); result = parity ? 3 : above ? 2 : 0;                    \
         unsigned char equal; __asm__ volatile("ucomi" S " %2, %1\n\tsete %0" : "=r"(equal) : "x"(x), "x"(y) : "cc");  \
         if (!parity && equal) result = 1)

OF_TYPE(f32_, float, uint32_t, "ss")
OF_TYPE(f64_, double, uint64_t, "sd")
NARROWING(f64_to_f32, double, uint64_t, float, "cvtsd2ss")
NARROWING(f32_to_f64, float, uint32_t, double, "cvtss2sd")
LOOP(f32_to_f16, float, uint32_t, __m128 v = _mm_set_ss(x); __m128i r;
     __asm__ volatile("vcvtps2ph $4, %1, %0" : "=x"(r) : "x"(v)); result = (uint16_t)_mm_cvtsi128_si32(r))
LOOP(f16_to_f32, float, uint32_t, __m128i v = _mm_cvtsi32_si128((int)(wa & 0xffff)); __m128 r;
     __asm__ volatile("vcvtph2ps %1, %0" : "=x"(r) : "x"(v)); float s = _mm_cvtss_f32(r); KEEP(s))
