"""The product of matrices for the GPU, tiled through shared memory: sequential sums of exact products.

One block of THREADS threads computes a tile of TILE_ROWS x TILE_COLUMNS results. DEPTH rows of B's part and columns of
A's are loaded into shared memory together; every thread then adds their products, in order, to its results: one of each
run of 16 in a row, which are those that share blocks of random words. The arithmetic is that of the emitted functions.

Written with macros, so that the host's compiler builds the same text: there the threads of a block are loops between
the barriers.
"""

from __future__ import annotations

THREADS, TILE_ROWS, TILE_COLUMNS = 256, 16, 256

TEXT = """\
enum { THREADS = 256, TILE_ROWS = 16, TILE_COLUMNS = 256, TILE_DEPTH = 16, OWN_RESULTS = 16 };
#ifdef __CUDA_ARCH__
#define SHARED __shared__
#define OWN(x) x
#define OWNED(x) f64 x[OWN_RESULTS]
#define THREADS_BEGIN { const int thread = threadIdx.x;
#define THREADS_END } __syncthreads();
#else
#define SHARED static thread_local
#define OWN(x) x[thread]
#define OWNED(x) static thread_local f64 x[THREADS][OWN_RESULTS]
#define THREADS_BEGIN for (int thread = 0; thread < THREADS; thread++) {
#define THREADS_END }
#endif

DEVICE_INLINE void add_tile(f64* sums, const f64* a, const f64* b, i64 length, i64 lane, i64 element, i64 step,
                            const Draws& d, i64 path, const Target& t) {
  for (i64 k = 0; k < length; k++) {
    f64 x = a[k];
    if (path == 0) {
      for (int j = 0; j < OWN_RESULTS; j++) sums[j] = mac_native(sums[j], x, b[k * TILE_COLUMNS + lane + 16 * j]);
    } else {
      i64 held = -1;
      results<i64, i64, i64, i64> words;
      for (int j = 0; j < OWN_RESULTS; j++) {
        f64 u = 0.0;
        if (t.random_bits > 0) {
          i64 e = element + 16 * j;
          if (d.lfsr > 0) {
            u = random_fraction(d, e, step + k, t);
          } else {
            i64 block = block_of(e, t);
            if (block != held) words = random_block(d, block, step + k);
            held = block;
            u = fraction_in(words.a, words.b, words.c, words.d, e, t);
          }
        }
        f64 y = b[k * TILE_COLUMNS + lane + 16 * j];
        sums[j] = path == 1 ? round_one(add_odd(sums[j], x * y, t), t, u) : mac_wide(sums[j], x, y, t, u).a;
      }
    }
  }
}

DEVICE_INLINE void run_tile(i64 tile, const f64* a, const f64* b, f64* out, const Layout& layout, i64 rows,
                            const Draws& d, i64 path, const Target& t) {
  SHARED f64 a_part[TILE_ROWS][TILE_DEPTH];
  SHARED f64 b_part[TILE_DEPTH * TILE_COLUMNS];
  OWNED(sums);
  const i64 across = (layout.width + TILE_COLUMNS - 1) / TILE_COLUMNS;
  const i64 top = tile / across * TILE_ROWS, left = tile % across * TILE_COLUMNS;
  THREADS_BEGIN
    for (int j = 0; j < OWN_RESULTS; j++) OWN(sums)[j] = 0.0;
  THREADS_END
  for (i64 k = 0; k < layout.depth; k += TILE_DEPTH) {
    const i64 length = min_i64(TILE_DEPTH, layout.depth - k);
    THREADS_BEGIN
      const i64 row = thread / TILE_DEPTH, at = thread % TILE_DEPTH;
      const bool inside = top + row < rows && at < length;
      a_part[row][at] = inside ? a[(top + row) * layout.depth + k + at] : 0.0;
      for (i64 i = 0; i < TILE_DEPTH; i++) {
        const bool there = i < length && left + thread < layout.width;
        b_part[i * TILE_COLUMNS + thread] = there ? b[(k + i) * layout.width + left + thread] : 0.0;
      }
    THREADS_END
    THREADS_BEGIN
      const i64 row = thread / 16, lane = thread % 16;
      const i64 element = layout.first + (top + row) * layout.pitch + left + lane;
      add_tile(OWN(sums), a_part[row], b_part, length, lane, element, k, d, path, t);
    THREADS_END
  }
  THREADS_BEGIN
    const i64 row = top + thread / 16;
    for (int j = 0; j < OWN_RESULTS; j++) {
      const i64 column = left + thread % 16 + 16 * j;
      if (row < rows && column < layout.width) out[layout.first + row * layout.pitch + column] = OWN(sums)[j];
    }
  THREADS_END
}

#ifdef __CUDA_ARCH__
extern "C" __global__ void __launch_bounds__(THREADS)
run_tiles(i64 count, f64* a, f64* b, f64* out, const Layout* layout, i64 rows, const Draws* d, i64 path,
          const Target* t) {
  const Target held = *t;
  const Draws draws = *d;
  const Layout placed = *layout;
  for (i64 tile = blockIdx.x; tile < count; tile += gridDim.x)
    run_tile(tile, a, b, out, placed, rows, draws, path, held);
}
#else
extern "C" void run_tiles(i64 begin, i64 end, f64* a, f64* b, f64* out, const Layout* layout, i64 rows, const Draws* d,
                          i64 path, const Target* t) {
  for (i64 tile = begin; tile < end; tile++) run_tile(tile, a, b, out, *layout, rows, *d, path, *t);
}
#endif
"""
