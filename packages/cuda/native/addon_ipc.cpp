// Memory that processes share by CUDA IPC. Each function returns a token, after which ipcMemory() tells what it
// brought.
#include <algorithm>

#include "addon.hpp"

namespace moe_a2a_addon {

Napi::Value Addon::RunIpc(std::function<TaskResult(IpcMemory &)> task) {
  const auto brought = std::make_shared<IpcMemory>();
  const uint32_t token =
      waiter_.run([brought, task = std::move(task)] { return task(*brought); }, [brought] { brought->isOver = true; });
  ipc_[token] = brought;
  return Napi::Number::New(env_, token);
}

// (device, bytes)
Napi::Value Addon::IpcAllocate(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  const uint64_t size = bytes(info, 1);
  return RunIpc([=](IpcMemory &made) { return allocateForIpc(device, size, made); });
}

// (device, address)
Napi::Value Addon::IpcExport(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  const uint64_t address = handle(info, 1);
  return RunIpc([=](IpcMemory &found) { return exportForIpc(device, address, found); });
}

// (device, handle)
Napi::Value Addon::IpcOpen(const Napi::CallbackInfo &info) {
  const int32_t device = int32(info, 0);
  const auto given = byteArray(info, 1);
  IpcHandle bytes;
  if (given.length != bytes.size()) typeError(info.Env(), 1, "64 bytes");
  std::copy_n(given.data, bytes.size(), bytes.data());
  return RunIpc([=](IpcMemory &opened) { return openIpc(device, bytes, opened); });
}

// (address)
Napi::Value Addon::IpcClose(const Napi::CallbackInfo &info) {
  const uint64_t address = handle(info, 0);
  return RunIpc([=](IpcMemory &) { return IpcStore::instance().close(address); });
}

// (token), once it was told; also where the task failed, so that nothing is kept.
Napi::Value Addon::IpcMemoryOf(const Napi::CallbackInfo &info) {
  const auto found = ipc_.find(uint32(info, 0));
  if (found == ipc_.end() || !found->second->isOver) throw Napi::Error::New(info.Env(), "there is no such token");
  const auto brought = std::move(found->second);
  ipc_.erase(found);
  auto bytes = Napi::Uint8Array::New(info.Env(), brought->handle.size());
  std::copy(brought->handle.begin(), brought->handle.end(), bytes.Data());
  Napi::Object result = Napi::Object::New(info.Env());
  result["address"] = fromHandle(info.Env(), brought->address);
  result["base"] = fromHandle(info.Env(), brought->base);
  result["bytes"] = static_cast<double>(brought->bytes);
  result["isExportable"] = brought->isExportable;
  result["handle"] = bytes;
  return result;
}

}  // namespace moe_a2a_addon
