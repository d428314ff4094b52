// Compiled without -fsanitize: a sanitizer is told what it needs, SIMT_SANITIZE_* says which.
#include "fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#ifdef SIMT_SANITIZE_ADDRESS
#include <sanitizer/asan_interface.h>
#endif
#ifdef SIMT_SANITIZE_THREAD
#include <sanitizer/tsan_interface.h>
#endif

// Saves what a callee must keep, stores the stack pointer in *from, and returns on the stack `to`.
extern "C" void simt_switch(void** from, void* to);
asm(R"(
.text
.type simt_switch, @function
simt_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
)");

namespace simt {
namespace {

constexpr size_t kStackBytes = 128 << 10, kGuardBytes = 4096;
Fiber *current, *previous;

char* new_stack() {
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  return static_cast<char*>(memory) + kGuardBytes;
}

}  // namespace

void Fiber::start(void (*entry)()) {
  if (stack_ == nullptr) {
    stack_ = new_stack();
    size_ = kStackBytes;
  }
  entry_ = entry;
  fake_stack_ = nullptr;
  // From the top: enter's own return address, its address for `ret`, and the six registers.
  void** top = std::fill_n(reinterpret_cast<void**>(stack_ + size_) - 8, 8, nullptr);
  top[-2] = reinterpret_cast<void*>(&Fiber::enter);
  stack_pointer_ = top - 8;
}

void Fiber::enter() {
  current->arrive();
  current->entry_();
}

void Fiber::arrive() {
#ifdef SIMT_SANITIZE_ADDRESS
  const void* bottom;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &previous->size_);
  previous->stack_ = static_cast<char*>(const_cast<void*>(bottom));
#endif
}

void Fiber::switch_to(Fiber& next, [[maybe_unused]] bool last) {
  previous = this;
  current = &next;
#ifdef SIMT_SANITIZE_ADDRESS
  __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack_, next.stack_, next.size_);
#endif
  next.appear();
  simt_switch(&stack_pointer_, next.stack_pointer_);
  arrive();
}

void Fiber::abandon() {
#ifdef SIMT_SANITIZE_ADDRESS
  if (stack_ != nullptr) __asan_unpoison_memory_region(stack_, size_);
#endif
#ifdef SIMT_SANITIZE_THREAD
  if (thread_ != nullptr) __tsan_destroy_fiber(thread_);
  thread_ = nullptr;
#endif
}

void Fiber::adopt_caller() {
  current = this;
#ifdef SIMT_SANITIZE_THREAD
  thread_ = __tsan_get_current_fiber();
#endif
}

#ifdef SIMT_SANITIZE_THREAD
void Fiber::appear() {
  if (thread_ == nullptr) thread_ = __tsan_create_fiber(0);
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
}
void Fiber::release(void* event) {
  appear();
  __tsan_release(event);
  current->appear();
}
void Fiber::acquire(void* event) {
  appear();
  __tsan_acquire(event);
  current->appear();
}
#else
void Fiber::appear() {}
void Fiber::release(void*) {}
void Fiber::acquire(void*) {}
#endif

}  // namespace simt
