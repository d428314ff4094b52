// A flow of control with a stack of its own, and what sanitizers must know of it.
#pragma once

#include <cstddef>

namespace simt {

// To ThreadSanitizer every fiber is a thread: only release and acquire order what fibers do.
class Fiber {
 public:
  // The next switch enters `entry`, which must never return.
  void start(void (*entry)());
  // Goes on with `next`; `last`: this fiber's frames are done with.
  void switch_to(Fiber& next, bool last = false);
  // Frames that were left in the middle will not be resumed.
  void abandon();
  // Takes the calling thread's own stack.
  void adopt_caller();

  // What follows is this fiber's doing, to ThreadSanitizer.
  void appear();
  // What this fiber did until now comes before what the fiber that acquires will do.
  void release(void* event);
  void acquire(void* event);

 private:
  static void enter();
  void arrive();

  char* stack_ = nullptr;
  size_t size_ = 0;
  void (*entry_)() = nullptr;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* thread_ = nullptr;      // ThreadSanitizer's
  void* stack_pointer_ = nullptr;
};

}  // namespace simt
