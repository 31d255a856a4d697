// The driver API of a machine without a GPU: initialisation, devices, contexts, streams, events, graphs, errors. Work runs when it is
// enqueued, except that a failed kernel reports itself from the next call on, as on a device, and except behind work that waits for other
// processes (lane.h). What a stream captures runs at each replay.
#include "driver.h"
#include "lane.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

namespace hostcuda {
namespace {

constexpr int kMaxDevices = 8;
constexpr int64_t kDefaultMemory = int64_t{8} << 30;

using Work = std::function<Result()>;

struct Stream;

struct Capture {
  Stream* origin;
  std::vector<Work> nodes;
  std::set<Stream*> unmerged;  // streams that joined and have work the origin has not waited for
  bool invalid = false;
};

struct Context;

struct Stream {
  Context* context = nullptr;
  std::shared_ptr<Capture> capture;
  std::shared_ptr<Lane> lane;  // made by the first work that waits for other processes
};

// The moment that a record marks: now, or when a lane has come to it.
struct Moment {
  std::shared_ptr<Lane> lane;
  uint64_t ticket = 0;
  std::chrono::steady_clock::time_point time;

  bool is_done() const { return lane == nullptr || lane->is_done(ticket); }
  void wait() const {
    if (lane != nullptr) lane->wait(ticket);
  }
};

struct Event {
  bool timed;
  bool recorded = false;
  std::shared_ptr<Moment> moment = std::make_shared<Moment>();
  std::shared_ptr<Capture> capture;  // set when last recorded into a capture
  Stream* stream = nullptr;
};

struct Graph {
  std::vector<Work> nodes;
};

struct Context {
  int device;
  int references = 0;
};

struct Injection {
  int after;
  Result error;
};

struct State {
  std::mutex mutex;
  bool initialized = false;
  std::unordered_map<const void*, Kind> handles;
  std::unordered_map<std::string, Injection> injections;
  std::unordered_map<std::string, int64_t> pretended;
  Result sticky = kSuccess;
  std::string fault;
  Context contexts[kMaxDevices];
  std::atomic<int64_t> launches{0}, host_to_device{0}, device_to_host{0}, device_to_device{0}, set{0}, allocated{0},
      peak{0}, allocations{0}, graph_launches{0}, calls{0};
};

// Z1_HOSTCUDA_INJECT=function:after_calls:error, for processes that nobody can call hostcuda_inject in.
void inject_from_environment(State* s) {
  const char* text = getenv("Z1_HOSTCUDA_INJECT");
  const char* colon = text != nullptr ? strchr(text, ':') : nullptr;
  int after, error;
  if (colon != nullptr && sscanf(colon, ":%d:%d", &after, &error) == 2) {
    s->injections[std::string(text, colon)] = {after, error};
  }
}

State& state() {
  // never destroyed: handles may be released by finalizers at exit
  static State* s = [] {
    auto* made = new State;
    inject_from_environment(made);
    return made;
  }();
  return *s;
}

thread_local std::vector<Context*> t_contexts;
thread_local std::string t_fault;

}  // namespace

int64_t pretended(const char* what, int64_t otherwise) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  auto found = s.pretended.find(what);
  return found == s.pretended.end() ? otherwise : found->second;
}

namespace {

int64_t from_environment(const char* variable, int64_t otherwise) {
  const char* text = getenv(variable);
  return text != nullptr && *text != 0 ? atoll(text) : otherwise;
}

int device_count() {
  int64_t count = pretended("devices", from_environment("Z1_HOSTCUDA_DEVICES", 1));
  return count < 0 ? 0 : count > kMaxDevices ? kMaxDevices : static_cast<int>(count);
}

// "sm_90a" gives 90.
int compute_capability() {
  const char* text = getenv("Z1_HOSTCUDA_ARCH");
  int arch = 80;
  if (text != nullptr && strncmp(text, "sm_", 3) == 0) arch = atoi(text + 3);
  return static_cast<int>(pretended("compute_capability", arch));
}

bool is_sticky(Result code) {
  return code == kEccUncorrectable || (code >= 700 && code <= 720 && code != kLaunchOutOfResources && code != 704 &&
                                       code != 705 && code != 708 && code != 709 && code != 712 && code != 713);
}

Result injected(const char* function) {
  auto& s = state();
  s.calls.fetch_add(1, std::memory_order_relaxed);
  std::lock_guard lock(s.mutex);
  if (s.injections.empty()) return kSuccess;
  auto found = s.injections.find(function);
  if (found == s.injections.end()) return kSuccess;
  if (found->second.after-- > 0) return kSuccess;
  Result error = found->second.error;
  s.injections.erase(found);
  if (is_sticky(error) && s.sticky == kSuccess) {
    s.sticky = error;
    s.fault = std::string("injected into ") + function;
  }
  return error;
}

template <class T>
T* live(void* handle, Kind kind) {
  return is_handle(handle, kind) ? static_cast<T*>(handle) : nullptr;
}

struct ErrorName {
  Result code;
  const char *name, *text;
};

constexpr ErrorName kErrors[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kEccUncorrectable, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kLaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {kLaunchTimeout, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {kAssert, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {kMisalignedAddress, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {kNotSupported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {kCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {kCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {kCaptureMerge, "CUDA_ERROR_STREAM_CAPTURE_MERGE",
     "operation would result in a merge of separate capture sequences"},
    {kCaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {kCaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {kCapturedEvent, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
};

const ErrorName* error_of(Result code) {
  for (auto& e : kErrors)
    if (e.code == code) return &e;
  return nullptr;
}

}  // namespace

Result enter(const char* function) {
  if (Result error = injected(function)) return error;
  auto& s = state();
  if (s.sticky != kSuccess) return s.sticky;
  return s.initialized ? kSuccess : kNotInitialized;
}

Result enter_release(const char* function) { return injected(function); }

Result after_release() { return state().sticky; }

void set_fault(Result code, const std::string& sentence) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  if (s.sticky != kSuccess) return;
  s.sticky = code;
  s.fault = sentence;
}

void add_handle(const void* handle, Kind kind) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  s.handles[handle] = kind;
}

bool remove_handle(const void* handle, Kind kind) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  auto found = s.handles.find(handle);
  if (found == s.handles.end() || found->second != kind) return false;
  s.handles.erase(found);
  return true;
}

bool is_handle(const void* handle, Kind kind) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  auto found = s.handles.find(handle);
  return found != s.handles.end() && found->second == kind;
}

Result submit(void* handle, Work work) {
  if (handle != nullptr) {
    auto* stream = live<Stream>(handle, Kind::kStream);
    if (stream == nullptr) return kInvalidHandle;
    if (auto& capture = stream->capture) {
      if (capture->invalid) return kCaptureInvalidated;
      capture->nodes.push_back(std::move(work));
      if (stream != capture->origin) capture->unmerged.insert(stream);
      return kSuccess;
    }
    if (stream->lane && stream->lane->push_if_busy(work)) return kSuccess;
  }
  return work();
}

Result submit_waiting(void* handle, std::function<void()> work) {
  auto* stream = live<Stream>(handle, Kind::kStream);
  if (stream == nullptr) return kInvalidHandle;
  if (stream->capture) return kCaptureUnsupported;
  if (!stream->lane) stream->lane = Lane::start();
  stream->lane->push_waiting(std::move(work));
  return kSuccess;
}

void drain(void* handle) {
  if (auto* stream = live<Stream>(handle, Kind::kStream); stream != nullptr && stream->lane) stream->lane->wait_all();
}

void drain_context() {
  Context* context = t_contexts.empty() ? nullptr : t_contexts.back();
  std::vector<std::shared_ptr<Lane>> lanes;
  {
    auto& s = state();
    std::lock_guard lock(s.mutex);
    for (auto& [handle, kind] : s.handles) {
      if (kind != Kind::kStream) continue;
      auto* stream = static_cast<Stream*>(const_cast<void*>(handle));
      if (stream->context == context && stream->lane) lanes.push_back(stream->lane);
    }
  }
  for (auto& lane : lanes) lane->wait_all();
}

Result refuse_capture(void* handle) {
  if (handle == nullptr) return kSuccess;
  auto* stream = live<Stream>(handle, Kind::kStream);
  if (stream == nullptr) return kInvalidHandle;
  if (!stream->capture) return kSuccess;
  stream->capture->invalid = true;
  return kCaptureUnsupported;
}

void count_copy(Copy kind, size_t bytes) {
  auto& s = state();
  auto& counter = kind == Copy::kHostToDevice     ? s.host_to_device
                  : kind == Copy::kDeviceToHost   ? s.device_to_host
                  : kind == Copy::kDeviceToDevice ? s.device_to_device
                                                  : s.set;
  counter.fetch_add(static_cast<int64_t>(bytes));
}

void count_launch() { state().launches.fetch_add(1); }

void count_memory(int64_t change) {
  auto& s = state();
  int64_t now = s.allocated.fetch_add(change) + change;
  if (change > 0) s.allocations.fetch_add(1);
  int64_t peak = s.peak.load();
  while (now > peak && !s.peak.compare_exchange_weak(peak, now)) {
  }
}

bool context_is_current() { return !t_contexts.empty() && t_contexts.back() != nullptr; }

size_t memory_limit() {
  return static_cast<size_t>(pretended("total_bytes", from_environment("Z1_HOSTCUDA_MEMORY", kDefaultMemory)));
}

size_t shared_limit() { return size_t{compute_capability() >= 90 ? 227u : 163u} << 10; }

}  // namespace hostcuda

using namespace hostcuda;

// ── for tests ──

HOSTCUDA_EXPORT const char* hostcuda_last_fault() {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  t_fault = s.fault;
  return t_fault.c_str();
}

// The call after `after_calls` further calls of `function` returns `error`; error 0 takes the injection back.
HOSTCUDA_EXPORT void hostcuda_inject(const char* function, int after_calls, int error) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  if (error == kSuccess) {
    s.injections.erase(function);
  } else {
    s.injections[function] = {after_calls, error};
  }
}

// A real process must end after a sticky error; a test process goes on.
HOSTCUDA_EXPORT void hostcuda_reset_fault() {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  s.sticky = kSuccess;
  s.fault.clear();
}

// "driver_version", "compute_capability", "devices", "total_bytes", "nccl_version"; a negative value takes it back.
HOSTCUDA_EXPORT void hostcuda_pretend(const char* what, int64_t value) {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  if (value < 0) {
    s.pretended.erase(what);
  } else {
    s.pretended[what] = value;
  }
}

HOSTCUDA_EXPORT int hostcuda_live_handles() {
  auto& s = state();
  std::lock_guard lock(s.mutex);
  return static_cast<int>(s.handles.size());
}

// launches, bytes host to device, device to host, device to device, set; bytes allocated now, peak; allocations, graph launches, calls.
HOSTCUDA_EXPORT void hostcuda_counters(int64_t* out, int count) {
  auto& s = state();
  const int64_t values[] = {s.launches, s.host_to_device, s.device_to_host, s.device_to_device, s.set,
                            s.allocated, s.peak, s.allocations, s.graph_launches, s.calls};
  for (int i = 0; i < count && i < static_cast<int>(sizeof values / sizeof *values); i++) out[i] = values[i];
}

// ── initialisation, errors, devices ──

HOSTCUDA_EXPORT Result cuInit(unsigned flags) {
  if (Result error = injected(__func__)) return error;
  if (flags != 0) return kInvalidValue;
  if (device_count() == 0) return kNoDevice;
  state().initialized = true;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuDriverGetVersion(int* version) {
  if (Result error = injected(__func__)) return error;
  *version = static_cast<int>(pretended("driver_version", 12040));
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuGetErrorName(Result code, const char** name) {
  auto* e = error_of(code);
  *name = e != nullptr ? e->name : nullptr;
  return e != nullptr ? kSuccess : kInvalidValue;
}

HOSTCUDA_EXPORT Result cuGetErrorString(Result code, const char** text) {
  auto* e = error_of(code);
  *text = e != nullptr ? e->text : nullptr;
  return e != nullptr ? kSuccess : kInvalidValue;
}

HOSTCUDA_EXPORT Result cuDeviceGetCount(int* count) {
  if (Result error = enter(__func__)) return error;
  *count = device_count();
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuDeviceGet(int* device, int ordinal) {
  if (Result error = enter(__func__)) return error;
  if (ordinal < 0 || ordinal >= device_count()) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuDeviceGetName(char* name, int length, int device) {
  if (Result error = enter(__func__)) return error;
  if (device < 0 || device >= device_count()) return kInvalidDevice;
  snprintf(name, static_cast<size_t>(length), "hostcuda %d", device);
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuDeviceTotalMem_v2(size_t* bytes, int device) {
  if (Result error = enter(__func__)) return error;
  if (device < 0 || device >= device_count()) return kInvalidDevice;
  *bytes = memory_limit();
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (Result error = enter(__func__)) return error;
  if (device < 0 || device >= device_count()) return kInvalidDevice;
  int capability = compute_capability();
  switch (attribute) {
    case 1: case 2: case 3: *value = 1024; return kSuccess;   // threads per block, block x and y
    case 4: *value = 64; return kSuccess;                     // block z
    case 5: *value = 0x7FFFFFFF; return kSuccess;             // grid x
    case 6: case 7: *value = 65535; return kSuccess;          // grid y, z
    case 8: *value = 48 << 10; return kSuccess;               // shared bytes per block without opting in
    case 10: *value = 32; return kSuccess;                    // warp
    case 16: *value = 4; return kSuccess;                     // multiprocessors
    case 38: *value = 4 << 20; return kSuccess;               // L2 bytes
    case 75: *value = capability / 10; return kSuccess;
    case 76: *value = capability % 10; return kSuccess;
    case 81: *value = (capability >= 90 ? 228 : 164) << 10; return kSuccess;  // shared bytes per multiprocessor
    case 97: *value = static_cast<int>(shared_limit()); return kSuccess;
    default: *value = 0; return kSuccess;
  }
}

// ── contexts ──

HOSTCUDA_EXPORT Result cuDevicePrimaryCtxRetain(void** context, int device) {
  if (Result error = enter(__func__)) return error;
  if (device < 0 || device >= device_count()) return kInvalidDevice;
  auto& c = state().contexts[device];
  c.device = device;
  if (c.references++ == 0) add_handle(&c, Kind::kContext);
  *context = &c;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuDevicePrimaryCtxRelease_v2(int device) {
  if (Result error = enter_release(__func__)) return error;
  if (device < 0 || device >= kMaxDevices) return kInvalidDevice;
  auto& c = state().contexts[device];
  if (c.references == 0) return kInvalidContext;
  if (--c.references == 0) remove_handle(&c, Kind::kContext);
  return after_release();
}

HOSTCUDA_EXPORT Result cuCtxSetCurrent(void* context) {
  if (Result error = enter(__func__)) return error;
  if (context != nullptr && !is_handle(context, Kind::kContext)) return kInvalidContext;
  if (t_contexts.empty()) {
    t_contexts.push_back(static_cast<Context*>(context));
  } else {
    t_contexts.back() = static_cast<Context*>(context);
  }
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuCtxGetCurrent(void** context) {
  if (Result error = enter(__func__)) return error;
  *context = t_contexts.empty() ? nullptr : t_contexts.back();
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuCtxPushCurrent_v2(void* context) {
  if (Result error = enter_release(__func__)) return error;
  if (!is_handle(context, Kind::kContext)) return kInvalidContext;
  t_contexts.push_back(static_cast<Context*>(context));
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuCtxPopCurrent_v2(void** context) {
  if (Result error = enter_release(__func__)) return error;
  if (t_contexts.empty()) return kInvalidContext;
  *context = t_contexts.back();
  t_contexts.pop_back();
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuCtxSynchronize() {
  if (Result error = enter(__func__)) return error;
  drain_context();
  if (after_release() != kSuccess) return after_release();
  return context_is_current() ? kSuccess : kInvalidContext;
}

// ── streams and events ──

HOSTCUDA_EXPORT Result cuStreamCreate(void** stream, unsigned) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  auto* made = new Stream;
  made->context = t_contexts.back();
  *stream = made;
  add_handle(made, Kind::kStream);
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuStreamDestroy_v2(void* stream) {
  if (Result error = enter_release(__func__)) return error;
  if (!remove_handle(stream, Kind::kStream)) return kInvalidHandle;
  auto* s = static_cast<Stream*>(stream);
  if (s->lane) s->lane->close();
  delete s;
  return after_release();
}

HOSTCUDA_EXPORT Result cuStreamSynchronize(void* stream) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  if (Result error = refuse_capture(stream)) return error;
  drain(stream);
  return after_release();
}

HOSTCUDA_EXPORT Result cuStreamQuery(void* stream) {
  if (Result error = enter(__func__)) return error;
  if (Result error = refuse_capture(stream)) return error;
  auto* s = stream != nullptr ? live<Stream>(stream, Kind::kStream) : nullptr;
  return s != nullptr && s->lane && !s->lane->is_idle() ? kNotReady : kSuccess;
}

HOSTCUDA_EXPORT Result cuEventCreate(void** event, unsigned flags) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  auto* e = new Event;
  e->timed = (flags & 2) == 0;
  *event = e;
  add_handle(e, Kind::kEvent);
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuEventDestroy_v2(void* event) {
  if (Result error = enter_release(__func__)) return error;
  if (!remove_handle(event, Kind::kEvent)) return kInvalidHandle;
  delete static_cast<Event*>(event);
  return after_release();
}

HOSTCUDA_EXPORT Result cuEventRecord(void* event, void* stream) {
  if (Result error = enter(__func__)) return error;
  auto* e = live<Event>(event, Kind::kEvent);
  auto* s = stream != nullptr ? live<Stream>(stream, Kind::kStream) : nullptr;
  if (e == nullptr || (stream != nullptr && s == nullptr)) return kInvalidHandle;
  if (s != nullptr && s->capture) {
    if (s->capture->invalid) return kCaptureInvalidated;
    e->capture = s->capture;
    e->stream = s;
    return kSuccess;
  }
  e->capture.reset();
  e->recorded = true;
  auto moment = std::make_shared<Moment>();
  auto mark = [moment]() -> Result {
    moment->time = std::chrono::steady_clock::now();
    return kSuccess;
  };
  if (s != nullptr && s->lane && (moment->ticket = s->lane->push_if_busy(mark)) != 0) {
    moment->lane = s->lane;
  } else {
    mark();
  }
  e->moment = moment;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuStreamWaitEvent(void* stream, void* event, unsigned) {
  if (Result error = enter(__func__)) return error;
  auto* e = live<Event>(event, Kind::kEvent);
  auto* s = stream != nullptr ? live<Stream>(stream, Kind::kStream) : nullptr;
  if (e == nullptr || (stream != nullptr && s == nullptr)) return kInvalidHandle;
  if (!e->capture) {
    // A stream that captures must not depend on work recorded outside. Otherwise the caller waits for what a lane has not done: work of
    // other streams runs as it is enqueued.
    if (s != nullptr && s->capture && e->recorded) {
      s->capture->invalid = true;
      return 905;  // CUDA_ERROR_STREAM_CAPTURE_ISOLATION
    }
    if (s == nullptr || s->lane == nullptr || e->moment->lane != s->lane) e->moment->wait();
    return after_release();
  }
  if (s == nullptr) return 906;  // CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
  if (s->capture && s->capture != e->capture) return kCaptureMerge;
  if (!s->capture) {
    s->capture = e->capture;
    s->capture->unmerged.insert(s);
  } else if (s == e->capture->origin) {
    e->capture->unmerged.erase(e->stream);
  }
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuEventSynchronize(void* event) {
  if (Result error = enter(__func__)) return error;
  auto* e = live<Event>(event, Kind::kEvent);
  if (e == nullptr) return kInvalidHandle;
  if (e->capture) return kCapturedEvent;
  e->moment->wait();
  return after_release();
}

HOSTCUDA_EXPORT Result cuEventQuery(void* event) {
  if (Result error = enter(__func__)) return error;
  auto* e = live<Event>(event, Kind::kEvent);
  if (e == nullptr) return kInvalidHandle;
  return e->capture ? kCapturedEvent : e->moment->is_done() ? kSuccess : kNotReady;
}

HOSTCUDA_EXPORT Result cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  if (Result error = enter(__func__)) return error;
  auto* a = live<Event>(start, Kind::kEvent);
  auto* b = live<Event>(end, Kind::kEvent);
  if (a == nullptr || b == nullptr || !a->timed || !b->timed || !a->recorded || !b->recorded) return kInvalidHandle;
  if (a->capture || b->capture) return kCapturedEvent;
  if (!a->moment->is_done() || !b->moment->is_done()) return kNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(b->moment->time - a->moment->time).count();
  return kSuccess;
}

// ── graphs ──

HOSTCUDA_EXPORT Result cuStreamBeginCapture_v2(void* stream, int) {
  if (Result error = enter(__func__)) return error;
  if (stream == nullptr) return kCaptureUnsupported;
  auto* s = live<Stream>(stream, Kind::kStream);
  if (s == nullptr) return kInvalidHandle;
  if (s->capture) return kInvalidValue;
  s->capture = std::make_shared<Capture>();
  s->capture->origin = s;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuStreamEndCapture(void* stream, void** graph) {
  if (Result error = enter_release(__func__)) return error;
  *graph = nullptr;
  auto* s = live<Stream>(stream, Kind::kStream);
  if (s == nullptr) return kInvalidHandle;
  if (!s->capture) return kInvalidValue;
  auto capture = s->capture;
  if (capture->origin != s) return kCaptureUnmatched;
  bool unjoined = !capture->unmerged.empty();
  {
    auto& all = state();
    std::lock_guard lock(all.mutex);
    for (auto& [handle, kind] : all.handles) {
      if (kind != Kind::kStream) continue;
      auto* other = static_cast<Stream*>(const_cast<void*>(handle));
      if (other->capture == capture) other->capture.reset();
    }
  }
  if (after_release() != kSuccess) return after_release();
  if (capture->invalid) return kCaptureInvalidated;
  if (unjoined) return kCaptureUnjoined;
  auto* g = new Graph{std::move(capture->nodes)};
  add_handle(g, Kind::kGraph);
  *graph = g;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuStreamIsCapturing(void* stream, int* status) {
  if (Result error = enter(__func__)) return error;
  auto* s = stream != nullptr ? live<Stream>(stream, Kind::kStream) : nullptr;
  if (stream != nullptr && s == nullptr) return kInvalidHandle;
  *status = s == nullptr || !s->capture ? 0 : s->capture->invalid ? 2 : 1;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
  if (Result error = enter(__func__)) return error;
  auto* g = live<Graph>(graph, Kind::kGraph);
  if (g == nullptr) return kInvalidHandle;
  *exec = new Graph{g->nodes};
  add_handle(*exec, Kind::kGraphExec);
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuGraphGetNodes(void* graph, void** nodes, size_t* count) {
  if (Result error = enter(__func__)) return error;
  auto* g = live<Graph>(graph, Kind::kGraph);
  if (g == nullptr) return kInvalidHandle;
  if (nodes != nullptr) return kNotSupported;
  *count = g->nodes.size();
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuGraphLaunch(void* exec, void* stream) {
  if (Result error = enter(__func__)) return error;
  auto* g = live<Graph>(exec, Kind::kGraphExec);
  if (g == nullptr) return kInvalidHandle;
  state().graph_launches.fetch_add(1);
  return submit(stream, [g] {
    for (auto& work : g->nodes)
      if (Result error = work()) return error;
    return kSuccess;
  });
}

HOSTCUDA_EXPORT Result cuGraphDestroy(void* graph) {
  if (Result error = enter_release(__func__)) return error;
  if (!remove_handle(graph, Kind::kGraph)) return kInvalidHandle;
  delete static_cast<Graph*>(graph);
  return after_release();
}

HOSTCUDA_EXPORT Result cuGraphExecDestroy(void* exec) {
  if (Result error = enter_release(__func__)) return error;
  if (!remove_handle(exec, Kind::kGraphExec)) return kInvalidHandle;
  delete static_cast<Graph*>(exec);
  return after_release();
}
