// What there is: platform, devices, plans.
#include "addon.hpp"

#include <algorithm>

namespace moe_a2a_addon {

namespace {

Napi::Object describePlatform(Napi::Env env, const moe_a2a_platform_info &platform) {
  Napi::Object result = Napi::Object::New(env);
  result["driverVersion"] = platform.driver_version;
  result["runtimeVersion"] = platform.runtime_version;
  result["deviceCount"] = platform.device_count;
  result["deviceError"] = platform.device_error;
  return result;
}

}  // namespace

Napi::Value Addon::Platform(const Napi::CallbackInfo &info) {
  moe_a2a_platform_info platform{};
  platform.struct_size = sizeof platform;
  check(info.Env(), moe_a2a_platform(&platform));
  return describePlatform(info.Env(), platform);
}

Napi::Value Addon::Device(const Napi::CallbackInfo &info) {
  moe_a2a_device_info device{};
  device.struct_size = sizeof device;
  check(info.Env(), moe_a2a_device(int32(info, 0), &device));
  return describe(info.Env(), device);
}

Napi::Object Addon::describe(Napi::Env env, const moe_a2a_device_info &device) {
  Napi::Object result = Napi::Object::New(env);
  result["name"] = fixedText(device.name);
  result["pciBusId"] = fixedText(device.pci_bus_id);
  std::string uuid;
  for (const uint8_t byte : device.uuid) {
    for (const int digit : {byte >> 4, byte & 15}) uuid.push_back("0123456789abcdef"[digit]);
  }
  result["uuid"] = uuid;
  result["computeMajor"] = device.compute_major;
  result["computeMinor"] = device.compute_minor;
  result["multiprocessors"] = device.multiprocessors;
  result["totalBytes"] = static_cast<double>(device.total_bytes);
  return result;
}

// On a thread of its own: asking for free memory makes a context on each GPU.
Napi::Value Addon::Inspect(const Napi::CallbackInfo &info) {
  if (inspecting_) throw Napi::Error::New(info.Env(), "the GPUs are being inspected");
  const auto made = std::make_shared<Inspection>();
  inspection_ = made;
  inspecting_ = true;
  const uint32_t token = waiter_.run([made] { return inspect(*made); }, [this] { inspecting_ = false; });
  return Napi::Number::New(info.Env(), token);
}

// What inspect() found, once its token was told.
Napi::Value Addon::Inspected(const Napi::CallbackInfo &info) {
  if (inspecting_ || inspection_ == nullptr) throw Napi::Error::New(info.Env(), "inspect() comes first");
  const auto found = std::move(inspection_);
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  result["platform"] = describePlatform(env, found->platform);
  result["driverRelease"] = found->driverRelease;
  auto devices = Napi::Array::New(env, found->devices.size());
  for (uint32_t d = 0; d < found->devices.size(); d++) {
    Napi::Object device = describe(env, found->devices[d].info);
    device["freeBytes"] = static_cast<double>(found->devices[d].freeBytes);
    devices[d] = device;
  }
  result["devices"] = devices;
  auto peers = Napi::Uint8Array::New(env, found->peers.size());
  for (size_t i = 0; i < found->peers.size(); i++) {
    peers[i] = static_cast<uint8_t>(found->peers[i].access | found->peers[i].atomics << 1);
  }
  result["peers"] = peers;
  return result;
}

Napi::Value Addon::Memory(const Napi::CallbackInfo &info) {
  uint64_t free = 0, total = 0;
  check(info.Env(), moe_a2a_memory(int32(info, 0), &free, &total));
  Napi::Object result = Napi::Object::New(info.Env());
  result["freeBytes"] = static_cast<double>(free);
  result["totalBytes"] = static_cast<double>(total);
  return result;
}

Napi::Value Addon::CanAccessPeer(const Napi::CallbackInfo &info) {
  int32_t can = 0;
  check(info.Env(), moe_a2a_can_access_peer(int32(info, 0), int32(info, 1), &can));
  return Napi::Boolean::New(info.Env(), can != 0);
}

// The layout as numbers, in the header's order, lanes last.
Napi::Value Addon::Plan(const Napi::CallbackInfo &info) {
  const moe_a2a_config config = readConfig(info, 0);
  moe_a2a_layout layout{};
  layout.struct_size = sizeof layout;
  check(info.Env(), moe_a2a_plan(&config, &layout));
  std::vector<double> values;
  for (const uint64_t value :
       {layout.control, layout.abort_records, layout.state, layout.accumulator, layout.recv_buffer_bytes,
        layout.stats_row_bytes, static_cast<uint64_t>(layout.max_targets), layout.window_bytes, layout.private_bytes}) {
    values.push_back(static_cast<double>(value));
  }
  for (int lane = 0; lane < config.rounds_in_flight; lane++) {
    uint64_t offsets[sizeof(moe_a2a_lane_layout) / sizeof(uint64_t)];
    std::memcpy(offsets, &layout.lanes[lane], sizeof offsets);
    for (const uint64_t offset : offsets) values.push_back(static_cast<double>(offset));
  }
  auto result = Napi::Float64Array::New(info.Env(), values.size());
  std::copy(values.begin(), values.end(), result.Data());
  return result;
}

Napi::Value Addon::ChooseMapping(const Napi::CallbackInfo &info) {
  moe_a2a_mapping mapping{};
  check(info.Env(), moe_a2a_choose_mapping(int32(info, 0), int32(info, 1), int32(info, 2), int32(info, 3), &mapping));
  auto result = Napi::Int32Array::New(info.Env(), 5);
  std::memcpy(result.Data(), &mapping, sizeof mapping);
  return result;
}

Napi::Value Addon::PointerDevice(const Napi::CallbackInfo &info) {
  int32_t device = -1;
  check(info.Env(), moe_a2a_pointer_device(handle(info, 0), &device));
  return Napi::Number::New(info.Env(), device);
}

}  // namespace moe_a2a_addon
