// torch's parallel_for on threads that ThreadSanitizer sees: it is blind to the pool of OpenMP.
//
// Built into the library in front of torch's own, it gives every call four new threads.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                      void (*f)(int64_t, int64_t, void*), void* context) {
  const int64_t least = (end - begin + 3) / 4, step = std::max(grain, least);
  std::vector<std::thread> threads;
  for (int64_t i = begin; i < end; i += step)
    threads.emplace_back(f, i, std::min(end, i + step), context);
  for (std::thread& thread : threads) thread.join();
  return 0;
}
