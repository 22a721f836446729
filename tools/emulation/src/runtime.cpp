// The part of the CUDA runtime that the library and its tests call, over emulated devices.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "device.hpp"

using namespace emulation;

namespace {

struct Allocation {
  size_t bytes;
  int device;  // -1: host memory
};
std::map<uintptr_t, Allocation> allocations;
thread_local cudaError_t lastError = cudaSuccess;

cudaError_t done(cudaError_t error = cudaSuccess) {
  if (error != cudaSuccess) lastError = error;
  return error;
}

Stream *streamOf(cudaStream_t stream) {
  static std::map<int, Stream *> legacy;  // by device; within calls of the host alone
  if (stream) return reinterpret_cast<Stream *>(stream);
  Stream *&found = legacy[currentDevice()];
  if (!found) found = makeStream(currentDevice());
  return found;
}

const Allocation *find(const void *p) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  auto next = allocations.upper_bound(at);
  if (next == allocations.begin()) return nullptr;
  --next;
  return at < next->first + next->second.bytes ? &next->second : nullptr;
}

cudaError_t allocate(void **p, size_t bytes, int device) {
  const HostCall call;
  void *memory = std::aligned_alloc(4096, (bytes + 8191) / 4096 * 4096);
  // Nobody may rely on what lies in new memory.
  if (bytes < (64u << 20)) std::memset(memory, 0xa5, bytes);
  allocations[reinterpret_cast<uintptr_t>(memory)] = {bytes ? bytes : 1, device};
  *p = memory;
  return done();
}

cudaError_t release(void *p) {
  if (!p) return done();
  const HostCall call;
  if (allocations.erase(reinterpret_cast<uintptr_t>(p)) == 0) return done(cudaErrorInvalidValue);
  std::free(p);
  return done();
}

std::unique_ptr<Work> actionOf(std::function<bool()> action) {
  auto work = std::make_unique<Work>();
  work->action = std::move(action);
  return work;
}

cudaError_t act(cudaStream_t stream, std::function<bool()> action) {
  const HostCall call;
  enqueue(streamOf(stream), [action] { return actionOf(action); });
  return done();
}

Stream *legacyStream() {
  const HostCall call;
  return streamOf(nullptr);
}

cudaError_t finish(Stream *stream) {
  runUntil([&] { return stream->works.empty(); }, "cudaStreamSynchronize");
  return done();
}

using Graph = std::vector<std::function<std::unique_ptr<Work>()>>;

Event *eventOf(cudaEvent_t event) { return reinterpret_cast<Event *>(event); }

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int *count) { return *count = deviceCount(), done(); }
cudaError_t cudaDriverGetVersion(int *version) { return *version = 13000, done(); }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 13000, done(); }
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= deviceCount()) return done(cudaErrorInvalidDevice);
  return currentDevice() = device, done();
}
cudaError_t cudaGetDevice(int *device) { return *device = currentDevice(), done(); }
cudaError_t cudaGetLastError() {
  const cudaError_t last = lastError;
  lastError = cudaSuccess;
  return last;
}
const char *cudaGetErrorString(cudaError_t) { return "an error of the emulation"; }
const char *cudaGetErrorName(cudaError_t) { return "cudaErrorEmulated"; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
  std::memset(p, 0, sizeof(*p));
  std::snprintf(p->name, sizeof(p->name), "emulated GPU %d", device);
  p->major = 9;
  p->multiProcessorCount = smCount();
  p->totalGlobalMem = size_t{8} << 30;
  p->uuid.bytes[0] = static_cast<char>(device + 1);
  return done();
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
  std::snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", device + 1);
  return done();
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) { return *can = 1, done(); }
cudaError_t cudaDeviceGetP2PAttribute(int *value, cudaDeviceP2PAttr, int, int) { return *value = 1, done(); }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { return *least = *greatest = 0, done(); }
cudaError_t cudaDeviceSynchronize() { return done(); }

cudaError_t cudaMalloc(void **p, size_t bytes) { return allocate(p, bytes, currentDevice()); }
cudaError_t cudaFree(void *p) { return release(p); }
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) { return allocate(p, bytes, -1); }
cudaError_t cudaFreeHost(void *p) { return release(p); }
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) { return *device = host, done(); }
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) { return *total = size_t{8} << 30, *free = *total / 2, done(); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p) {
  const HostCall call;
  *attributes = {};
  const Allocation *found = find(p);
  if (!found) return done();
  attributes->type = found->device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  attributes->device = found->device < 0 ? 0 : found->device;
  return done();
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int) {
  return *pool = reinterpret_cast<cudaMemPool_t>(1), done();
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const cudaMemPoolProps *) {
  return *pool = reinterpret_cast<cudaMemPool_t>(1), done();
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return done(); }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *) { return done(); }
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc *, size_t) { return done(); }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return done(); }
cudaError_t cudaMallocFromPoolAsync(void **p, size_t bytes, cudaMemPool_t, cudaStream_t) {
  return cudaMalloc(p, bytes);
}
cudaError_t cudaFreeAsync(void *p, cudaStream_t) { return release(p); }

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *, void *) { return done(cudaErrorNotSupported); }
cudaError_t cudaIpcOpenMemHandle(void **, cudaIpcMemHandle_t, unsigned) { return done(cudaErrorNotSupported); }
cudaError_t cudaIpcCloseMemHandle(void *) { return done(cudaErrorNotSupported); }
cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **found, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
  *found = nullptr;
  *result = cudaDriverEntryPointSymbolNotFound;
  return done();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const HostCall call;
  if (find(from)) {
    return act(stream, [=] { return std::memcpy(to, from, bytes), true; });
  }
  // Pageable memory is read at once.
  const auto *bytesOf = static_cast<const uint8_t *>(from);
  const auto kept = std::make_shared<std::vector<uint8_t>>(bytesOf, bytesOf + bytes);
  return act(stream, [=] { return std::memcpy(to, kept->data(), bytes), true; });
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return finish(legacyStream());
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t toPitch, const void *from, size_t fromPitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  for (size_t i = 0; i < height; i++) {
    cudaMemcpyAsync(static_cast<uint8_t *>(to) + i * toPitch, static_cast<const uint8_t *>(from) + i * fromPitch, width,
                    kind, stream);
  }
  return done();
}
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream) {
  return act(stream, [=] { return std::memset(to, byte, bytes), true; });
}
cudaError_t cudaMemset(void *to, int byte, size_t bytes) {
  cudaMemsetAsync(to, byte, bytes, nullptr);
  return finish(legacyStream());
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  const HostCall call;
  *stream = reinterpret_cast<cudaStream_t>(makeStream(currentDevice()));
  return done();
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  freeStream(streamOf(stream));
  return done();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return finish(streamOf(stream)); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const HostCall call;
  const uint64_t asked = eventOf(event)->asked;
  return act(stream, [=] { return eventOf(event)->passed >= asked; });
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *, const cudaGraphNode_t **, const cudaGraphEdgeData **, size_t *) {
  const HostCall call;
  *status = streamOf(stream)->isCapturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  *id = streamOf(stream)->capture;
  return done();
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const HostCall call;
  static unsigned long long captures = 0;
  streamOf(stream)->isCapturing = true;
  streamOf(stream)->capture = captures++;
  streamOf(stream)->captured.clear();
  return done();
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  const HostCall call;
  Stream *s = streamOf(stream);
  s->isCapturing = false;
  *graph = reinterpret_cast<cudaGraph_t>(new auto(s->captured));
  return done();
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long) {
  *made = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph *>(graph)));
  return done();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph *>(graph);
  return done();
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<Graph *>(graph);
  return done();
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const HostCall call;
  for (const auto &make : *reinterpret_cast<Graph *>(graph)) enqueue(streamOf(stream), make);
  return done();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return done();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  // Streams may still have it to pass.
  (void)event;
  return done();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const HostCall call;
  const uint64_t number = ++eventOf(event)->asked;
  return act(stream, [=] {
    eventOf(event)->passed = std::max(eventOf(event)->passed, number);
    eventOf(event)->at = now();
    return true;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const HostCall call;
  if (eventOf(event)->passed < eventOf(event)->asked) runSlice();
  return eventOf(event)->passed < eventOf(event)->asked ? done(cudaErrorNotReady) : done();
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  runUntil([=] { return eventOf(event)->passed >= eventOf(event)->asked; }, "cudaEventSynchronize");
  return done();
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
  *ms = static_cast<float>(eventOf(end)->at - eventOf(start)->at) * 1e-6f;
  return done();
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function) {
  *attributes = {};
  return findKernel(function) ? done() : done(cudaErrorInvalidDeviceFunction);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int, size_t) {
  const Callable *found = findKernel(function);
  if (!found) return done(cudaErrorInvalidDeviceFunction);
  *blocks = kUnitsPerSm / found->cost;
  return done();
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments) {
  const HostCall call;
  const Callable *found = findKernel(function);
  if (!found) return done(cudaErrorInvalidDeviceFunction);
  bool isProgrammatic = false;
  for (unsigned i = 0; i < config->numAttrs; i++) {
    isProgrammatic |= config->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization;
  }
  enqueueKernel(found->name, found->bind(arguments), config->gridDim, config->blockDim, found->cost, isProgrammatic,
                config->stream);
  return done();
}

}  // extern "C"

namespace emulation {

void enqueueKernel(const char *name, std::function<void()> body, dim3 grid, dim3 block, int cost, bool isProgrammatic,
                   cudaStream_t stream) {
  const HostCall call;
  enqueue(streamOf(stream), [=] {
    auto work = std::make_unique<Work>();
    work->kernel = std::make_unique<Kernel>();
    work->kernel->name = name;
    work->kernel->body = body;
    work->kernel->grid = grid;
    work->kernel->size = block;
    work->kernel->cost = cost;
    work->kernel->isProgrammatic = isProgrammatic;
    return work;
  });
}

}  // namespace emulation
