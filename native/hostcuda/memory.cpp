#include "memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "driver.h"

namespace hostcuda {
namespace {

constexpr size_t kPage = 4096, kGranularity = 256;
constexpr size_t kRange = size_t{1} << 36;  // 64 GiB of addresses, not of memory
constexpr size_t kPages = kRange / kPage;
constexpr size_t kMaxAllocations = size_t{1} << 22;

struct Slot {
  Allocation allocation;
  size_t first_page, pages;  // of the region, both guard pages included
};

struct Heap {
  std::mutex mutex;
  uintptr_t base = 0;
  std::atomic<uint32_t>* owner = nullptr;  // page -> slot + 1, 0 for none
  Slot* slots = nullptr;
  size_t used_slots = 0, next_page = 0;
  size_t live_bytes = 0;
  uint64_t next_id = 1;
  std::map<size_t, size_t> free_pages;      // first page -> pages, reused only when the range is used up
  std::vector<uint32_t> free_slots;         // of regions that were reused
  std::map<uintptr_t, uint32_t> live;       // begin -> slot
  std::map<uintptr_t, size_t> pinned;
};

Heap& heap() {
  static Heap* h = new Heap;
  return *h;
}

void* reserve(size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

bool prepare(Heap& h) {
  if (h.base != 0) return true;
  void* range = reserve(kRange, PROT_NONE);
  void* table = reserve(kPages * sizeof(uint32_t), PROT_READ | PROT_WRITE);
  void* slots = reserve(kMaxAllocations * sizeof(Slot), PROT_READ | PROT_WRITE);
  if (range == nullptr || table == nullptr || slots == nullptr) return false;
  h.owner = static_cast<std::atomic<uint32_t>*>(table);
  h.slots = static_cast<Slot*>(slots);
  h.base = reinterpret_cast<uintptr_t>(range);
  return true;
}

// Pages for a region: fresh addresses first, so that a freed allocation stays recognisable as long as possible.
bool take_pages(Heap& h, size_t pages, size_t* first) {
  if (h.next_page + pages <= kPages) {
    *first = h.next_page;
    h.next_page += pages;
    return true;
  }
  for (auto it = h.free_pages.begin(); it != h.free_pages.end(); ++it) {
    if (it->second < pages) continue;
    *first = it->first;
    size_t rest = it->second - pages;
    h.free_pages.erase(it);
    if (rest != 0) h.free_pages[*first + pages] = rest;
    return true;
  }
  return false;
}

void give_pages(Heap& h, size_t first, size_t pages) {
  auto next = h.free_pages.lower_bound(first);
  if (next != h.free_pages.end() && next->first == first + pages) {
    pages += next->second;
    next = h.free_pages.erase(next);
  }
  if (next != h.free_pages.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second == first) {
      previous->second += pages;
      return;
    }
  }
  h.free_pages[first] = pages;
}

// [address, address + bytes) inside one live allocation.
bool inside(uintptr_t address, size_t bytes) {
  Allocation a;
  return bytes == 0 || (find_allocation(address, &a) && a.live && address >= a.begin && bytes <= a.bytes &&
                        address - a.begin <= a.bytes - bytes);
}

Result copy(Copy kind, uintptr_t to, uintptr_t from, size_t bytes, void* stream) {
  if (kind != Copy::kDeviceToHost && !inside(to, bytes)) return kInvalidValue;
  if (kind != Copy::kHostToDevice && !inside(from, bytes)) return kInvalidValue;
  return submit(stream, [=] {
    if ((kind != Copy::kDeviceToHost && !inside(to, bytes)) || (kind != Copy::kHostToDevice && !inside(from, bytes))) {
      set_fault(kIllegalAddress, "a copy of a graph touches memory that was freed");
      return kSuccess;
    }
    memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    count_copy(kind, bytes);
    return kSuccess;
  });
}

}  // namespace

bool find_allocation(uintptr_t address, Allocation* out) {
  auto& h = heap();
  if (h.base == 0 || address - h.base >= kRange) return false;
  uint32_t owner = h.owner[(address - h.base) / kPage].load(std::memory_order_acquire);
  if (owner == 0) return false;
  *out = h.slots[owner - 1].allocation;
  return true;
}

}  // namespace hostcuda

using namespace hostcuda;

HOSTCUDA_EXPORT Result cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  auto& h = heap();
  std::lock_guard lock(h.mutex);
  *total = memory_limit();
  *free_bytes = *total > h.live_bytes ? *total - h.live_bytes : 0;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuMemAlloc_v2(uintptr_t* address, size_t bytes) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  if (bytes == 0) return kInvalidValue;
  size_t limit = memory_limit();
  auto& h = heap();
  std::lock_guard lock(h.mutex);
  if (bytes > limit || h.live_bytes > limit - bytes || !prepare(h)) return kOutOfMemory;
  size_t rounded = (bytes + kGranularity - 1) / kGranularity * kGranularity;
  size_t body = (rounded + kPage - 1) / kPage, first;
  if (!take_pages(h, body + 2, &first)) return kOutOfMemory;
  uint32_t slot;
  if (!h.free_slots.empty()) {
    slot = h.free_slots.back();
    h.free_slots.pop_back();
  } else if (h.used_slots < kMaxAllocations) {
    slot = static_cast<uint32_t>(h.used_slots++);
  } else {
    return kOutOfMemory;
  }
  uintptr_t region = h.base + (first + 1) * kPage;
  if (mprotect(reinterpret_cast<void*>(region), body * kPage, PROT_READ | PROT_WRITE) != 0) return kOutOfMemory;
  memset(reinterpret_cast<void*>(region), 0xFF, body * kPage);
  uintptr_t begin = region + body * kPage - rounded;
  h.slots[slot] = {{begin, bytes, h.next_id++, true}, first, body + 2};
  for (size_t page = first; page < first + body + 2; page++)
    h.owner[page].store(slot + 1, std::memory_order_release);
  h.live[begin] = slot;
  h.live_bytes += bytes;
  count_memory(static_cast<int64_t>(bytes));
  add_handle(reinterpret_cast<void*>(begin), Kind::kMemory);
  *address = begin;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuMemFree_v2(uintptr_t address) {
  if (Result error = enter_release(__func__)) return error;
  drain_context();
  auto& h = heap();
  std::lock_guard lock(h.mutex);
  auto found = h.live.find(address);
  if (found == h.live.end()) return kInvalidValue;
  auto& slot = h.slots[found->second];
  slot.allocation.live = false;
  // The pages stay known as those of a freed allocation; their memory goes back to the system.
  void* pages = reinterpret_cast<void*>(h.base + slot.first_page * kPage);
  madvise(pages, slot.pages * kPage, MADV_DONTNEED);
  mprotect(pages, slot.pages * kPage, PROT_NONE);
  give_pages(h, slot.first_page, slot.pages);
  h.live_bytes -= slot.allocation.bytes;
  count_memory(-static_cast<int64_t>(slot.allocation.bytes));
  remove_handle(reinterpret_cast<void*>(address), Kind::kMemory);
  h.live.erase(found);
  return after_release();
}

HOSTCUDA_EXPORT Result cuMemHostAlloc(void** address, size_t bytes, unsigned) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  if (bytes == 0) return kInvalidValue;
  void* p = nullptr;
  if (posix_memalign(&p, kPage, bytes) != 0) return kOutOfMemory;
  add_handle(p, Kind::kPinned);
  *address = p;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuMemFreeHost(void* address) {
  if (Result error = enter_release(__func__)) return error;
  drain_context();
  if (!remove_handle(address, Kind::kPinned)) return kInvalidValue;
  free(address);
  return after_release();
}

HOSTCUDA_EXPORT Result cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* stream) {
  if (Result error = enter(__func__)) return error;
  return copy(Copy::kHostToDevice, to, reinterpret_cast<uintptr_t>(from), bytes, stream);
}

HOSTCUDA_EXPORT Result cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* stream) {
  if (Result error = enter(__func__)) return error;
  return copy(Copy::kDeviceToHost, reinterpret_cast<uintptr_t>(to), from, bytes, stream);
}

HOSTCUDA_EXPORT Result cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void* stream) {
  if (Result error = enter(__func__)) return error;
  return copy(Copy::kDeviceToDevice, to, from, bytes, stream);
}

HOSTCUDA_EXPORT Result cuMemsetD8Async(uintptr_t to, unsigned char value, size_t bytes, void* stream) {
  if (Result error = enter(__func__)) return error;
  if (!inside(to, bytes)) return kInvalidValue;
  return submit(stream, [=] {
    if (!inside(to, bytes)) {
      set_fault(kIllegalAddress, "a fill of a graph touches memory that was freed");
      return kSuccess;
    }
    memset(reinterpret_cast<void*>(to), value, bytes);
    count_copy(Copy::kSet, bytes);
    return kSuccess;
  });
}
