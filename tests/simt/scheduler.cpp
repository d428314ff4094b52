// Runs a grid: blocks one after another, and of a block one thread until it must wait for others.
//
// ThreadSanitizer sees a missing barrier in any schedule, because only events order threads: the
// launch, a barrier, a warp operation. Who acquired late would acquire too much, so the last to
// arrive acquires for all. Each block has events and shared memory of its
// own, which a fiber frees that no block waits for: else they would order one block after another.
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <new>
#include <vector>

#include "emulator.h"
#include "fiber.h"
#include "launch_limits.h"
#include "order.h"
#include "thread.h"

namespace simt {

Position position;

namespace {

#ifdef SIMT_SANITIZE_THREAD
constexpr int kSets = 4;  // of fibers: what one fiber does in two blocks counts as ordered
#else
constexpr int kSets = 1;
#endif

struct Events {
  char barrier, warp[kWarps][kWarp];  // by the lowest lane of the mask
};
struct Memory {
  const void* key;
  void* bytes;
};

Fiber host, janitor, fibers[2 * kMaxThreads];
char started, finished;  // events of the launch
std::string chosen_order, failure;
Order order("forward");
void (*run_thread)(void*);
void* run_argument;

// The block that runs.
Thread threads[kMaxThreads];
int count, current, live, arrived;
const Thread* first_arrived;                 // at the barrier
unsigned waiting[kWarps], returned[kWarps];  // lanes; returned, or never there
Events* events;
std::vector<Memory> shared;          // the dynamic first
size_t dynamic_bytes, shared_bytes;  // the latter with the static so far

// ---- errors: recorded by the thread, thrown by the host ----------------------------------------

[[noreturn]] void fail(const std::string& message) {
  failure = message + ", block " + text(position.block);
  threads[current].fiber->switch_to(host);
  std::abort();  // nobody comes back
}
[[noreturn]] void fail(const char* what, const Thread& thread) {
  fail(std::string(what) + ": " + text(thread));
}
[[noreturn]] void fail(const char* what, const Thread& thread, const Thread& other) {
  fail(std::string(what) + ": " + text(thread) + ", " + text(other));
}

[[noreturn]] void fail_of_deadlock() {
  const auto waits = [](const Thread& thread) { return !thread.done; };
  const Thread& one = *std::find_if(threads, threads + count, waits);
  for (const Thread* other = &one; other < threads + count; ++other)
    if (waits(*other) && !same_place(one, *other)) fail("deadlock", one, *other);
  std::abort();  // all in one place would have gone on
}

// ---- threads -----------------------------------------------------------------------------------

Fiber& next_fiber() {
  current = order.next();
  position.thread = threads[current].index;
  return *threads[current].fiber;
}

// Leaves the current thread, which waits or is done.
void run_next() {
  if (order.empty() && live > 0) fail_of_deadlock();
  const Thread& from = threads[current];
  Fiber& next = order.empty() ? host : next_fiber();
  if (&next != from.fiber) from.fiber->switch_to(next, from.done);
}

template <class F>
void for_lanes(int warp, unsigned lanes, F f) {
  for (; lanes != 0; lanes &= lanes - 1) f(threads[warp * kWarp + __builtin_ctz(lanes)]);
}

// Ends the operation of `mask` if all lanes have come; as on a GPU, returned ones are not awaited.
void finish_operation(int warp, unsigned mask) {
  const unsigned lanes = mask & ~returned[warp];
  if ((waiting[warp] & lanes) != lanes) return;
  const Thread* lane = threads + warp * kWarp;
  for_lanes(warp, lanes, [&](Thread& t) {
    if (t.source >= 0 && !(lanes >> t.source & 1))
      fail("a shuffle reads a lane that has returned or is not in the mask", t);
    t.result = t.source >= 0 ? lane[t.source].given : 0;
    t.fiber->acquire(&events->warp[warp][__builtin_ctz(mask)]);
  });
  waiting[warp] &= ~lanes;
  order.add_lanes(warp * kWarp, lanes);
}

uint64_t warp_operation(unsigned mask, uint64_t given, int source, Site site) {
  Thread& me = threads[current];
  const int warp = current / kWarp;
  me.site = site;
  me.mask = mask;
  me.given = given;
  me.source = source;
  if (!(mask >> lane() & 1)) fail("a lane calls with a mask without it", me);
  for_lanes(warp, waiting[warp], [&](const Thread& other) {
    const bool met = (mask >> (&other - threads) % kWarp & 1) || (other.mask >> lane() & 1);
    if (met && other.mask != mask) fail("lanes of a warp meet with different masks", me, other);
    if (met && !same_place(other, me))
      fail("lanes of a warp meet in different operations", me, other);
  });
  waiting[warp] |= 1u << lane();
  me.fiber->release(&events->warp[warp][__builtin_ctz(mask)]);
  finish_operation(warp, mask);
  run_next();
  return me.result;
}

void thread_main() {
  run_thread(run_argument);
  Thread& me = threads[current];
  const int warp = current / kWarp;
  me.done = true;
  --live;
  returned[warp] |= 1u << lane();
  if (arrived > 0) fail("a thread returns while another waits in a barrier", me, *first_arrived);
  for (unsigned left = waiting[warp]; left != 0;) {
    const unsigned mask = threads[warp * kWarp + __builtin_ctz(left)].mask;
    finish_operation(warp, mask);
    left &= ~mask;
  }
  run_next();
}

// ---- blocks ------------------------------------------------------------------------------------

void* new_shared(const void* key, size_t bytes) {
  shared_bytes += bytes;
  void* memory;
  if (posix_memalign(&memory, 16, bytes) != 0) throw std::bad_alloc();
  std::memset(memory, 0xff, bytes);  // NaN
  shared.push_back({key, memory});
  return memory;
}

void begin_block() {
  const dim3& size = position.block_size;
  events = new Events{};
  shared_bytes = 0;
  new_shared(nullptr, dynamic_bytes);
  host.release(&started);
  live = count;
  arrived = 0;
  std::fill_n(waiting, kWarps, 0u);
  std::fill_n(returned, kWarps, ~0u);
  static int first_fiber = 0;
  first_fiber += count;
  if (first_fiber + count > std::min<int>(kSets * count, std::size(fibers))) first_fiber = 0;
  for (int i = 0; i < count; ++i) {
    const unsigned n = i;
    threads[i] = {};
    threads[i].index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
    threads[i].fiber = &fibers[first_fiber + i];
    threads[i].fiber->start(thread_main);
    threads[i].fiber->acquire(&started);
    returned[i / kWarp] &= ~(1u << i % kWarp);
  }
  order.begin_block();
  order.add_block(count);
}

void end_block() {
  for (int i = 0; i < count; ++i) threads[i].fiber->release(&finished);
  if (!failure.empty())
    for (Fiber& fiber : fibers) fiber.abandon();
  janitor.acquire(&finished);
  janitor.appear();
  for (const Memory& memory : shared) std::free(memory.bytes);
  delete events;
  host.appear();
  shared.clear();
}

}  // namespace

// ---- what emulator.h declares ------------------------------------------------------------------

int lane() { return current % kWarp; }
void sync_warp(unsigned mask, Site site) { warp_operation(mask, 0, kNothing, site); }
uint64_t shuffle(unsigned mask, uint64_t bits, int source, Site site) {
  return warp_operation(mask, bits, source, site);
}

void sync_block(Site site) {
  Thread& me = threads[current];
  me.site = site;
  if (arrived++ == 0) first_arrived = &me;
  if (!same_place(*first_arrived, me))
    fail("threads of a block meet in different barriers", me, *first_arrived);
  for (int i = 0; live < count && i < count; ++i)
    if (threads[i].done)
      fail("a thread waits in a barrier after another has returned", me, threads[i]);
  me.fiber->release(&events->barrier);
  if (arrived == count) {
    for (int i = 0; i < count; ++i) threads[i].fiber->acquire(&events->barrier);
    arrived = 0;
    order.add_block(count);
  }
  run_next();
}

void* dynamic_shared() { return shared[0].bytes; }
void* static_shared(const void* key, size_t bytes) {
  for (const Memory& memory : shared)
    if (memory.key == key) return memory.bytes;
  // A launch within the default limit does not ask for more.
  const size_t limit = dynamic_bytes > kUnasked ? kMaxShared : kDefaultShared;
  if (shared_bytes + bytes > limit)
    fail("a block has at most " + std::to_string(limit) + " bytes of shared memory, got " +
         std::to_string(shared_bytes + bytes));
  host.appear();
  void* memory = new_shared(key, bytes);
  host.release(&started);
  for (int i = 0; i < count; ++i) threads[i].fiber->acquire(&started);
  return memory;
}

void set_order(const char* name) {
  if (name != nullptr) Order{name};  // throws
  chosen_order = name == nullptr ? "" : name;
}

void run(dim3 grid, dim3 block, size_t dynamic, void (*thread)(void*), void* argument) {
  static std::mutex one_launch;
  const std::lock_guard<std::mutex> lock(one_launch);
  check_launch(grid, block, dynamic);
  const char* environment = std::getenv("SIMT_ORDER");
  const char* name = environment == nullptr ? "random:1" : environment;
  order = Order(chosen_order.empty() ? name : chosen_order);
  position.block_size = block;
  position.grid_size = grid;
  count = static_cast<int>(block.x * block.y * block.z);
  dynamic_bytes = dynamic;
  run_thread = thread;
  run_argument = argument;
  host.adopt_caller();
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t step = 0; step < blocks && failure.empty(); ++step) {
    const uint64_t i = order.block(step, blocks);
    position.block = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y),
                      unsigned(i / grid.x / grid.y)};
    begin_block();
    host.switch_to(next_fiber());
    end_block();
  }
  host.acquire(&finished);
  if (!failure.empty()) throw std::runtime_error(std::exchange(failure, {}));
}

}  // namespace simt
