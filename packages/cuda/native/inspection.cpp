#include "inspection.hpp"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <fstream>

namespace moe_a2a_addon {

namespace {

// The driver's management library, which comes with the driver. CUDA itself knows no release.
std::string releaseFromManagement() {
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return "";
  const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
  const auto shutDown = reinterpret_cast<int (*)()>(dlsym(library, "nvmlShutdown"));
  const auto version = reinterpret_cast<int (*)(char *, unsigned)>(dlsym(library, "nvmlSystemGetDriverVersion"));
  char text[96] = "";
  if (init != nullptr && shutDown != nullptr && version != nullptr && init() == 0) {
    if (version(text, sizeof text - 1) != 0) text[0] = 0;
    shutDown();
  }
  dlclose(library);
  return text;
}

std::string releaseFromKernel() {
  std::string release;
  std::getline(std::ifstream("/sys/module/nvidia/version"), release);
  return release;
}

int64_t freeBytesOf(int device) {
  uint64_t free = 0, total = 0;
  return moe_a2a_memory(device, &free, &total) == MOE_A2A_OK ? static_cast<int64_t>(free) : -1;
}

Inspection::Peer peerOf(int device, int peer) {
  int32_t access = 0;
  int atomics = 0;
  if (moe_a2a_can_access_peer(device, peer, &access) != MOE_A2A_OK) return {};
  if (device == peer) return {true, true};
  if (cudaDeviceGetP2PAttribute(&atomics, cudaDevP2PAttrNativeAtomicSupported, device, peer) != cudaSuccess) {
    cudaGetLastError();
    atomics = 0;
  }
  return {access != 0, atomics != 0};
}

}  // namespace

int32_t inspect(Inspection &inspection) {
  inspection.platform.struct_size = sizeof inspection.platform;
  if (const int32_t result = moe_a2a_platform(&inspection.platform); result < 0) return result;
  if (inspection.platform.driver_version > 0) {
    inspection.driverRelease = releaseFromManagement();
    if (inspection.driverRelease.empty()) inspection.driverRelease = releaseFromKernel();
  }
  const int count = inspection.platform.device_count;
  for (int device = 0; device < count; device++) {
    Inspection::Device found;
    found.info.struct_size = sizeof found.info;
    if (const int32_t result = moe_a2a_device(device, &found.info); result < 0) return result;
    found.freeBytes = freeBytesOf(device);
    inspection.devices.push_back(found);
  }
  for (int device = 0; device < count; device++) {
    for (int peer = 0; peer < count; peer++) inspection.peers.push_back(peerOf(device, peer));
  }
  return MOE_A2A_OK;
}

}  // namespace moe_a2a_addon
