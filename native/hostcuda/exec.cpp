// Runs a grid: the threads of a block as fibers, the blocks one after another.
#include "exec.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "device.h"
#include "shadow.h"

namespace hostcuda {

// Saves the callee-saved registers on the stack, stores the stack pointer at `save`, and goes on where `load` was
// saved.
extern "C" __attribute__((visibility("hidden"))) void hostcuda_switch_stack(void** save, void* load);
asm(R"(
.pushsection .text
.globl hostcuda_switch_stack
.hidden hostcuda_switch_stack
.type hostcuda_switch_stack, @function
hostcuda_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hostcuda_switch_stack, .-hostcuda_switch_stack
.popsection
)");

Engine g_engine;

namespace {

constexpr size_t kPage = 4096, kSavedRegisters = 6;

Fiber g_idle;  // stands for the thread that calls execute: nothing it touches is checked
uint64_t g_next_serial = 1;

[[noreturn]] void out_of_memory(const char* what) {
  fprintf(stderr, "hostcuda: cannot reserve memory for %s\n", what);
  abort();
}

char* reserve(size_t bytes, const char* what) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) out_of_memory(what);
  return static_cast<char*>(p);
}

void prepare() {
  Engine& e = g_engine;
  if (e.fibers != nullptr) return;
  g_idle.stack_bytes = ~size_t{0};
  e.self = &g_idle;
  e.fibers = new Fiber[kMaxThreads];
  e.warp = new Warp[kMaxWarps];
  char* stacks = reserve(kMaxThreads * (kStackBytes + kPage) + kPage, "stacks");
  for (int i = 0; i < kMaxThreads; i++) {
    char* guard = stacks + size_t(i) * (kStackBytes + kPage);
    mprotect(guard, kPage, PROT_NONE);
    e.fibers[i].stack_low = reinterpret_cast<uintptr_t>(guard + kPage);
    e.fibers[i].stack_bytes = kStackBytes;
  }
  char* shared = reserve(kSharedCapacity + 2 * kSharedZone, "shared memory");
  mprotect(shared, kSharedZone, PROT_NONE);
  mprotect(shared + kSharedZone + kSharedCapacity, kSharedZone, PROT_NONE);
  e.shared = reinterpret_cast<uintptr_t>(shared + kSharedZone);
}

uint3 position(uint64_t linear, uint3 extent) {
  return {unsigned(linear % extent.x), unsigned(linear / extent.x % extent.y),
          unsigned(linear / extent.x / extent.y)};
}

std::string tuple(uint3 v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

// " (RmsNorm.cu:31)" by binutils' addr2line, which comes with the compiler that made the image: the innermost line of a
// kernel file, not of the headers that wrap instructions. "" when it is not known.
std::string source_line(uintptr_t site) {
  Dl_info info;
  if (site == 0 || dladdr(reinterpret_cast<void*>(site), &info) == 0 || info.dli_fname == nullptr) return "";
  std::string file = info.dli_fname;
  const std::string own = "/proc/self/";
  if (file.rfind(own, 0) == 0) file = "/proc/" + std::to_string(getpid()) + "/" + file.substr(own.size());
  if (file.find('\'') != std::string::npos) return "";
  char offset[32];
  snprintf(offset, sizeof offset, "%zx", size_t(site - 1 - reinterpret_cast<uintptr_t>(info.dli_fbase)));
  const std::string command = "addr2line -i -e '" + file + "' " + offset + " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "re");
  if (pipe == nullptr) return "";
  char line[512];
  std::string found;
  while (fgets(line, sizeof line, pipe) != nullptr) {
    std::string text = line;
    text = text.substr(0, text.find_first_of(" \n"));
    if (const size_t slash = text.rfind('/'); slash != std::string::npos) text = text.substr(slash + 1);
    const size_t colon = text.rfind(':');
    if (colon == std::string::npos || text[0] == '?' || text.substr(colon) == ":?" || text.substr(colon) == ":0")
      continue;
    const bool header = text.find(".cuh:") != std::string::npos;
    if (found.empty() || !header) found = " (" + text + ")";
    if (!header) break;
  }
  pclose(pipe);
  return found;
}

// Switches to the next fiber that can run; `from` is where the caller's stack pointer goes.
void run_next(void** from);

[[noreturn]] void fiber_main() {
  Engine& e = g_engine;
  e.kernel->body(e.params);
  Fiber& f = self();
  f.exited = true;
  e.live--;
  e.reader_turns = 0;
  run_next(&f.stack_pointer);
  abort();  // an exited fiber is never resumed
}

void start(Fiber& f) {
  // Stacks lie a multiple of the page size apart; staggered tops keep the frames of a warp out of one set of the cache.
  auto* top = reinterpret_cast<uintptr_t*>(f.stack_low + f.stack_bytes - size_t(f.index % 61) * 320);
  top -= (reinterpret_cast<uintptr_t>(top) % 64) / sizeof(uintptr_t);
  *--top = 0;  // where a caller's return address would be: the stack is aligned as after a call
  *--top = reinterpret_cast<uintptr_t>(&fiber_main);
  for (size_t i = 0; i < kSavedRegisters; i++) *--top = 0;
  f.stack_pointer = top;
}

Fiber* next_fiber() {
  Engine& e = g_engine;
  if (e.ready_warps == 0) return nullptr;
  // The warp that is under way goes on as long as it can.
  int w = e.self->warp != nullptr ? e.self->warp->index : 0;
  if (e.ready[w] == 0) w = e.reversed ? 31 - __builtin_clz(e.ready_warps) : __builtin_ctz(e.ready_warps);
  const int lane = e.reversed ? 31 - __builtin_clz(e.ready[w]) : __builtin_ctz(e.ready[w]);
  e.ready[w] &= ~(1u << lane);
  if (e.ready[w] == 0) e.ready_warps &= ~(1u << w);
  return &e.fibers[w * kWarpLanes + lane];
}

void set_ready(Fiber& f) {
  g_engine.ready[f.warp->index] |= 1u << f.lane;
  g_engine.ready_warps |= 1u << f.warp->index;
}

// Nobody is ready: those whose condition has come true, else those that read memory over and over.
bool wake_some() {
  Engine& e = g_engine;
  bool any = false;
  Fiber* const running = e.self;
  for (size_t i = 0; i < e.polling.size();) {
    Fiber* f = e.polling[i];
    e.self = f;
    if (!f->ready(f->ready_argument)) {
      i++;
      continue;
    }
    set_ready(*f);
    e.polling.erase(e.polling.begin() + ptrdiff_t(i));
    any = true;
  }
  e.self = running;
  if (any || e.readers.empty()) return any;
  if (e.reader_turns > kReaderTurns) return false;
  e.reader_turns++;
  set_ready(*e.readers.front());
  e.readers.erase(e.readers.begin());
  return true;
}

std::string ranges(const std::vector<int>& threads) {
  std::string text;
  int shown = 0;
  for (size_t i = 0; i < threads.size();) {
    size_t j = i + 1;
    while (j < threads.size() && threads[j] == threads[j - 1] + 1) j++;
    if (++shown > 4) return text + ", ...";
    if (!text.empty()) text += ", ";
    text += std::to_string(threads[i]);
    if (j - i > 1) text += (j - i == 2 ? ", " : "-") + std::to_string(threads[j - 1]);
    i = j;
  }
  return text;
}

// What keeps the block from going on: who waits where, and who has exited.
std::string deadlock() {
  Engine& e = g_engine;
  struct Group {
    std::string what;
    std::vector<int> threads;
  };
  std::vector<Group> groups;
  std::vector<std::pair<const Wait*, size_t>> known;
  bool barrier = false;
  for (int t = 0; t < e.threads; t++) {
    const Fiber& f = e.fibers[t];
    const Wait& w = f.wait;
    size_t g = groups.size();
    for (auto& k : known) {
      const bool same = f.exited ? k.first == nullptr
                                 : k.first != nullptr && k.first->text == w.text && k.first->first == w.first &&
                                       k.first->second == w.second && k.first->site == w.site;
      if (same) g = k.second;
    }
    if (g == groups.size()) {
      known.push_back({f.exited ? nullptr : &w, g});
      if (f.exited) {
        groups.push_back({"exited", {}});
      } else {
        char text[160];
        snprintf(text, sizeof text, w.text, w.first, w.second);
        groups.push_back({std::string(w.for_event ? "for " : "at ") + text +
                          source_line(w.site), {}});
      }
    }
    groups[g].threads.push_back(t);
    if (!f.exited && !f.wait.for_event) barrier = true;
  }
  std::string text = !e.readers.empty() ? "a wait without end" : barrier ? "divergent barrier" : "deadlock";
  for (size_t i = 0; i < groups.size(); i++) {
    const bool one = groups[i].threads.size() == 1;
    text += (i == 0 ? ": thread" : "; thread") + std::string(one ? " " : "s ") + ranges(groups[i].threads);
    if (groups[i].what == "exited") text += one ? " has exited" : " have exited";
    else text += (one ? " waits " : " wait ") + groups[i].what;
  }
  return text;
}

void run_next(void** from) {
  Engine& e = g_engine;
  Fiber* next;
  while ((next = next_fiber()) == nullptr) {
    if (e.live == 0 || !wake_some()) {
      e.self = &g_idle;
      hostcuda_switch_stack(from, e.main_stack_pointer);
      return;
    }
  }
  if (&next->stack_pointer == from) return;
  e.self = next;
  hostcuda_switch_stack(from, next->stack_pointer);
}

void run_block() {
  Engine& e = g_engine;
  for (int w = 0; w < e.warps; w++) {
    Warp& warp = e.warp[w];
    const int lanes = e.threads - w * kWarpLanes < kWarpLanes ? e.threads - w * kWarpLanes : kWarpLanes;
    warp.index = w;
    warp.lanes = lanes == kWarpLanes ? ~0u : (1u << lanes) - 1;
    warp.arrived = 0;
    warp.parity = 0;
    warp.diverged = false;
    warp.known = Clock();
    e.ready[w] = warp.lanes;
  }
  e.ready_warps = e.warps == kMaxWarps ? ~0u : (1u << e.warps) - 1;
  for (int t = 0; t < e.threads; t++) {
    Fiber& f = e.fibers[t];
    f.index = t;
    f.lane = t % kWarpLanes;
    f.warp = &e.warp[t / kWarpLanes];
    f.known = f.warp->known.at;
    f.stamp = make_stamp(e.serial, t, 1);
    f.thread = position(uint64_t(t), e.block_dim);
    f.exited = false;
    f.ready = nullptr;
    f.reads_in_a_row = 0;
    f.copies.clear();
    f.copies_of_group.clear();
    f.open_copies = 0;
    start(f);
  }
  for (auto& b : e.barriers) b = Barrier();
  e.live = e.threads;
  e.fenced = e.acquired = false;
  e.reader_turns = 0;
  e.polling.clear();
  e.readers.clear();
  begin_block_shadow();
  run_next(&e.main_stack_pointer);
  if (e.fault.empty() && e.live != 0) {
    e.fault = std::string(e.kernel->name) + ": block " + tuple(e.block_index) + ": " + deadlock();
  }
  for (auto& o : e.objects) o.destroy(o.object);
  e.objects.clear();
}

}  // namespace

std::string describe(const Fiber& f) {
  const uint3 d = g_engine.block_dim;
  return "thread " + (d.y == 1 && d.z == 1 ? std::to_string(f.index) : tuple(f.thread));
}

void fail(const std::string& what, uintptr_t site) {
  Engine& e = g_engine;
  e.fault = std::string(e.kernel->name) + ": block " + tuple(e.block_index) + " " + describe(self()) + " " + what;
  e.fault_site = site;
  void* abandoned;
  e.self = &g_idle;
  hostcuda_switch_stack(&abandoned, e.main_stack_pointer);
  abort();  // fibers of a failed launch are never resumed
}

void wait(const Wait& reason) {
  Fiber& f = self();
  f.wait = reason;
  f.reads_in_a_row = 0;
  g_engine.reader_turns = 0;
  run_next(&f.stack_pointer);
}

void make_ready(Fiber& f) { set_ready(f); }

void yield_reading(uintptr_t site) {
  Fiber& f = self();
  f.wait = {"a change of what it reads over and over", 0, 0, site, true};
  f.reads_in_a_row = 0;
  g_engine.readers.push_back(&f);
  run_next(&f.stack_pointer);
}

void wait_until(const Wait& reason, bool (*predicate)(void*), void* argument) {
  if (predicate(argument)) return;
  Fiber& f = self();
  f.ready = predicate;
  f.ready_argument = argument;
  g_engine.polling.push_back(&f);
  Wait event = reason;
  event.for_event = true;
  wait(event);
  f.ready = nullptr;
}

namespace {

void set_clock(Fiber& f, uint32_t clock) {
  if (clock > kClockMask) fail("synchronised more than 16 million times in one block", 0);
  f.stamp = make_stamp(g_engine.serial, f.index, clock);
}

void join(Clock& into, const uint32_t* from) {
  for (int w = 0; w < g_engine.warps; w++) into.at[w] = into.at[w] > from[w] ? into.at[w] : from[w];
}

}  // namespace

void release(Clock& clock) {
  Fiber& f = self();
  join(clock, f.known);
  const uint32_t now = clock_of(f.stamp);
  uint32_t& own = clock.at[f.warp->index];
  own = own > now ? own : now;
  f.warp->diverged = true;
  set_clock(f, now + 1);
}

namespace {

void acquire_for(Fiber& f, const Clock& clock) {
  if (f.known != f.own_known.at) {
    memcpy(f.own_known.at, f.known, sizeof f.own_known.at);
    f.known = f.own_known.at;
  }
  f.warp->diverged = true;
  join(f.own_known, clock.at);
  const uint32_t now = clock_of(f.stamp) + 1, after = f.own_known.at[f.warp->index] + 1;
  set_clock(f, now > after ? now : after);
}

// All lanes of the warp know `clock`, in which each of them has released.
void acquire_warp(Warp& w, const Clock& clock) {
  w.known = clock;
  w.diverged = false;
  const uint32_t next = clock.at[w.index] + 1;
  for (int lane = 0; lane < kWarpLanes; lane++) {
    if (!(w.lanes >> lane & 1)) break;
    Fiber& f = g_engine.fibers[w.index * kWarpLanes + lane];
    f.known = w.known.at;
    set_clock(f, next);
  }
}

}  // namespace

void acquire(const Clock& clock) { acquire_for(self(), clock); }

void order_warp(Warp& w) {
  Fiber* lanes = &g_engine.fibers[w.index * kWarpLanes];
  if (!w.diverged) {
    const uint32_t now = clock_of(lanes[__builtin_ctz(w.lanes)].stamp);
    if (now >= kClockMask) fail("synchronised more than 16 million times in one block", 0);
    w.known.at[w.index] = now;
    for (int lane = 0; lane < kWarpLanes && (w.lanes >> lane & 1); lane++) lanes[lane].stamp += 1u << kClockShift;
    return;
  }
  Clock merged = w.known;
  for (int lane = 0; lane < kWarpLanes && (w.lanes >> lane & 1); lane++) {
    join(merged, lanes[lane].known);
    const uint32_t now = clock_of(lanes[lane].stamp);
    if (merged.at[w.index] < now) merged.at[w.index] = now;
  }
  acquire_warp(w, merged);
}

namespace {

void arrive(int id, int threads, bool waits, const Wait& reason) {
  Engine& e = g_engine;
  if (id < 0 || id >= kBarriers) fail("uses barrier " + std::to_string(id) + "; there are 0 to 15", reason.site);
  if (threads <= 0 || threads > e.threads || (threads % kWarpLanes != 0 && threads != e.threads)) {
    fail("uses barrier " + std::to_string(id) + " with " + std::to_string(threads) + " threads in a block of " +
             std::to_string(e.threads), reason.site);
  }
  Fiber& f = self();
  Barrier& b = e.barriers[id];
  if (b.arrived == 0) {
    b = Barrier();
    b.expected = threads;
  } else if (b.expected != threads) {
    fail("arrives at barrier " + std::to_string(id) + " for " + std::to_string(threads) + " threads, others for " +
             std::to_string(b.expected) + ": divergent barrier", reason.site);
  }
  const bool was_diverged = f.warp->diverged;
  release(b.clock);
  if (waits) f.warp->diverged = was_diverged;  // restored for good if the whole warp meets here
  b.arrived++;
  if (waits) b.waiting[f.warp->index] |= 1u << f.lane;
  if (b.arrived < b.expected) {
    if (waits) wait(reason);
    return;
  }
  b.arrived = 0;
  for (int w = 0; w < e.warps; w++) {
    const uint32_t waiting = b.waiting[w];
    if (waiting == 0) continue;
    Warp& warp = e.warp[w];
    if (waiting == warp.lanes) {
      acquire_warp(warp, b.clock);
    } else {
      for (int lane = 0; lane < kWarpLanes; lane++)
        if (waiting >> lane & 1) acquire_for(e.fibers[w * kWarpLanes + lane], b.clock);
    }
    e.ready[w] |= waiting;
    e.ready_warps |= 1u << w;
  }
  if (waits) {
    // This thread goes on without a switch.
    e.ready[f.warp->index] &= ~(1u << f.lane);
    if (e.ready[f.warp->index] == 0) e.ready_warps &= ~(1u << f.warp->index);
  }
}

uintptr_t site_of(void* return_address) { return reinterpret_cast<uintptr_t>(return_address); }

}  // namespace

std::string execute(const KernelEntry& kernel, const LaunchConfig& config, const void* params) {
  prepare();
  Engine& e = g_engine;
  e.kernel = &kernel;
  e.params = params;
  e.grid_dim = {config.grid[0], config.grid[1], config.grid[2]};
  e.block_dim = {config.block[0], config.block[1], config.block[2]};
  e.threads = int(config.block[0] * config.block[1] * config.block[2]);
  e.warps = (e.threads + kWarpLanes - 1) / kWarpLanes;
  e.shared_bytes = config.shared_bytes;
  e.image_begin = kernel.image_begin;
  e.image_bytes = kernel.image_end - kernel.image_begin;
  const char* order = getenv("Z1_HOSTCUDA_ORDER");
  e.reversed = order != nullptr && strcmp(order, "reversed") == 0;
  e.fault.clear();
  e.fault_site = 0;
  const uint64_t blocks = uint64_t(e.grid_dim.x) * e.grid_dim.y * e.grid_dim.z;
  const std::string name = kernel.name;
  if (e.threads < 1 || e.threads > kMaxThreads) return name + ": a block of " + std::to_string(e.threads) + " threads";
  if (e.shared_bytes > kSharedCapacity)
    return name + ": " + std::to_string(e.shared_bytes) + " bytes of shared memory";
  if (blocks >= kMaxSerial) return name + ": " + std::to_string(blocks) + " blocks are more than the emulation numbers";
  if (g_next_serial + blocks > kMaxSerial) {
    forget_shadow();
    g_next_serial = 1;
  }
  e.first_serial = g_next_serial;
  g_next_serial += blocks;
  e.released.assign(blocks, false);
  begin_launch_shadow();
  for (uint64_t b = 0; b < blocks && e.fault.empty(); b++) {
    e.serial = e.first_serial + b;
    e.block_index = position(b, e.grid_dim);
    run_block();
  }
  e.self = &g_idle;
  return e.fault.empty() ? "" : e.fault + source_line(e.fault_site);
}

}  // namespace hostcuda

using namespace hostcuda;

HOSTCUDA_TWIN uint3 hostcuda_thread_index() noexcept { return self().thread; }
HOSTCUDA_TWIN uint3 hostcuda_block_index() noexcept { return g_engine.block_index; }
HOSTCUDA_TWIN uint3 hostcuda_block_dim() noexcept { return g_engine.block_dim; }
HOSTCUDA_TWIN uint3 hostcuda_grid_dim() noexcept { return g_engine.grid_dim; }
HOSTCUDA_TWIN void* hostcuda_shared_memory() noexcept { return reinterpret_cast<void*>(g_engine.shared); }

HOSTCUDA_TWIN void hostcuda_sync_threads() noexcept {
  arrive(0, g_engine.threads, true, {"sync_threads", 0, 0, site_of(__builtin_return_address(0))});
}

HOSTCUDA_TWIN void hostcuda_bar_sync(int id, int threads) noexcept {
  arrive(id, threads, true, {"bar_sync %d of %d threads", id, threads, site_of(__builtin_return_address(0))});
}

HOSTCUDA_TWIN void hostcuda_bar_arrive(int id, int threads) noexcept {
  arrive(id, threads, false, {"bar_arrive", 0, 0, site_of(__builtin_return_address(0))});
}
