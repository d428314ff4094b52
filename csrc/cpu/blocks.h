// The rows of a batch in blocks, and the order in which threads visit pairs of blocks.
//
// Blocks and order depend on the batch alone, never on the number of threads, and no two threads
// write to one block: results are bitwise the same however many there are.
#pragma once

#include <algorithm>

#include "cpu/tensor.h"

namespace kdops {

struct Blocks {
  int64_t rows, size, count;

  explicit Blocks(int64_t n)
      : rows(n),
        size(n <= 512   ? 64
             : n < 1024 ? 128
                        : 256),
        count((n + size - 1) / size) {}

  int64_t begin(int64_t b) const { return b * size; }
  int64_t length(int64_t b) const { return std::min(size, rows - begin(b)); }
  int64_t tiles() const { return count * (count + 1) / 2; }
  // The number of tile (a, b), a <= b.
  int64_t tile(int64_t a, int64_t b) const { return b * (b + 1) / 2 + a; }
};

// f(a, b) for every pair of blocks a <= b, in any order: for work that writes to its tile alone.
// `make` gives each thread its scratch: make() -> f.
template <class Make>
void for_each_tile(const Blocks& blocks, const Make& make) {
  parallel(blocks.tiles(), 1, [&](int64_t begin, int64_t end) {
    auto f = make();
    int64_t b = 0;
    for (int64_t tile = begin; tile < end; ++tile) {
      while (blocks.tile(0, b + 1) <= tile) ++b;
      f(tile - blocks.tile(0, b), b);
    }
  });
}

// The same as a tournament: the tiles of one round share no block, so f may add to the rows of
// both. First the diagonal; then, on a ring of an odd number of blocks, round r has r + i meet r -
// i, and r itself meets the block that an even number leaves outside the ring.
template <class Make>
void for_each_meeting(const Blocks& blocks, const Make& make) {
  parallel(blocks.count, 1, [&](int64_t begin, int64_t end) {
    auto f = make();
    for (int64_t a = begin; a < end; ++a) f(a, a);
  });
  const bool even = blocks.count % 2 == 0;
  const int64_t ring = even ? blocks.count - 1 : blocks.count, first = even ? 0 : 1;
  const int64_t rounds = blocks.count > 1 ? ring : 0;
  for (int64_t round = 0; round < rounds; ++round) {
    parallel((ring + 1) / 2 - first, 1, [&](int64_t begin, int64_t end) {
      auto f = make();
      for (int64_t i = begin + first; i < end + first; ++i) {
        const int64_t a = (round + i) % ring, b = i == 0 ? ring : (round + ring - i) % ring;
        f(std::min(a, b), std::max(a, b));
      }
    });
  }
}

}  // namespace kdops
