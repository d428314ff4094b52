// The order in which blocks, and a block's ready threads, run: forward, reverse or random:SEED.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

namespace simt {

class Order {
 public:
  explicit Order(const std::string& name) : reverse_(name == "reverse") {
    unsigned seed;
    char rest;
    random_ = std::sscanf(name.c_str(), "random:%u%c", &seed, &rest) == 1;
    if (random_) generator_.seed(seed);
    if (!random_ && !reverse_ && name != "forward")
      throw std::runtime_error("SIMT_ORDER must be forward, reverse or random:SEED, got " + name);
    turn();
    last_block_first_ = reverse_;
  }

  uint64_t block(uint64_t step, uint64_t blocks) const {
    return last_block_first_ ? blocks - 1 - step : step;
  }
  // Half of all random blocks run the newest ready thread, so one warp gets far ahead of the others
  // and meets what they have not read yet; a random choice hardly ever lets it.
  void begin_block() {
    first_ = count_ = 0;
    newest_first_ = random_ && below(2);
  }

  bool empty() const { return count_ == 0; }
  void add(int thread) { ready_[(first_ + count_++) % kSize] = thread; }
  void add_block(int threads) {
    turn();
    const int offset = random_ ? below(threads) : 0;
    for (int i = 0; i < threads; ++i) {
      const int thread = (i + offset) % threads;
      add(reverse_ ? threads - 1 - thread : thread);
    }
  }
  void add_lanes(int first_thread, unsigned lanes) {
    for (int i = 0; i < 32; ++i) {
      const int lane = reverse_ ? 31 - i : i;
      if (lanes >> lane & 1) add(first_thread + lane);
    }
  }
  int next() {
    const int last = first_ + --count_;
    if (!random_) return ready_[first_++ % kSize];
    if (!newest_first_) std::swap(at(last), at(first_ + below(count_ + 1)));
    return at(last);
  }

 private:
  static constexpr int kSize = 1024;

  int& at(int i) { return ready_[i % kSize]; }
  int below(int n) { return static_cast<int>(generator_() % static_cast<unsigned>(n)); }
  void turn() {
    if (random_) reverse_ = below(2);
  }

  bool random_, reverse_, last_block_first_, newest_first_ = false;
  std::mt19937 generator_;
  int ready_[kSize], first_ = 0, count_ = 0;
};

}  // namespace simt
