// What the files of hostcuda's driver share: result codes, entry checks, handles, and the way work reaches a stream.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#define HOSTCUDA_EXPORT extern "C" __attribute__((visibility("default")))

namespace hostcuda {

using Result = int;
constexpr Result kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kNoDevice = 100,
                 kInvalidDevice = 101, kInvalidImage = 200, kInvalidContext = 201, kEccUncorrectable = 214,
                 kInvalidHandle = 400, kNotFound = 500, kNotReady = 600, kIllegalAddress = 700,
                 kLaunchOutOfResources = 701, kLaunchTimeout = 702, kAssert = 710, kMisalignedAddress = 716,
                 kLaunchFailed = 719, kNotSupported = 801, kCaptureUnsupported = 900, kCaptureInvalidated = 901,
                 kCaptureMerge = 902, kCaptureUnmatched = 903, kCaptureUnjoined = 904, kCapturedEvent = 907;

enum class Kind { kContext, kStream, kEvent, kGraph, kGraphExec, kModule, kMemory, kPinned, kOther };

// The first line of every driver function: the injected error of this call, the sticky error of the context, or 0.
Result enter(const char* function);
// The same without the sticky error, for functions that release: memory and handles go even when the context is lost.
Result enter_release(const char* function);
// The sticky error after a release, so that a caller sees it as with the real driver.
Result after_release();
// Records an asynchronous failure: this and every later call of the process returns it, until hostcuda_reset_fault.
void set_fault(Result code, const std::string& sentence);

void add_handle(const void* handle, Kind kind);
bool remove_handle(const void* handle, Kind kind);
bool is_handle(const void* handle, Kind kind);

// Runs work now, or appends it to the graph that the stream captures. Null is the default stream.
Result submit(void* stream, std::function<Result()> work);
// Enqueues work that waits for other processes: it runs on a thread of the stream (lane.h). What fails in it is the caller's to keep.
Result submit_waiting(void* stream, std::function<void()> work);
// Waits until a stream, or every stream of the current context, has done what was enqueued.
void drain(void* stream);
void drain_context();
// Fails with the code of the driver when a stream captures: waiting and querying are not allowed then.
Result refuse_capture(void* stream);

enum class Copy { kHostToDevice, kDeviceToHost, kDeviceToDevice, kSet };
void count_copy(Copy kind, size_t bytes);
void count_launch();
void count_memory(int64_t change);
bool context_is_current();
int64_t pretended(const char* what, int64_t otherwise);  // what hostcuda_pretend has set
size_t memory_limit();
size_t shared_limit();  // bytes of shared memory a block may opt in to

}  // namespace hostcuda
