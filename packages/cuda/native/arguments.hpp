// Reading arguments of JavaScript calls: anything unexpected is an exception, never a crash.
#pragma once

#include <napi.h>

#include <cstring>
#include <string>

#include "moe_a2a.h"

namespace moe_a2a_addon {

[[noreturn]] inline void typeError(Napi::Env env, size_t index, const char *wanted) {
  throw Napi::TypeError::New(env, "argument " + std::to_string(index) + " must be " + wanted);
}

inline double number(const Napi::CallbackInfo &info, size_t index) {
  double value;
  if (napi_get_value_double(info.Env(), info[index], &value) != napi_ok) typeError(info.Env(), index, "a number");
  return value;
}

// An integer of `low`…`high`, both exactly representable.
inline int64_t integer(const Napi::CallbackInfo &info, size_t index, int64_t low, int64_t high) {
  const double value = number(info, index);
  if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) ||
      value != static_cast<double>(static_cast<int64_t>(value))) {
    typeError(info.Env(), index, ("an integer from " + std::to_string(low) + " to " + std::to_string(high)).c_str());
  }
  return static_cast<int64_t>(value);
}

inline int32_t int32(const Napi::CallbackInfo &info, size_t index) {
  return static_cast<int32_t>(integer(info, index, INT32_MIN, INT32_MAX));
}

inline uint32_t uint32(const Napi::CallbackInfo &info, size_t index) {
  return static_cast<uint32_t>(integer(info, index, 0, UINT32_MAX));
}

inline uint64_t bytes(const Napi::CallbackInfo &info, size_t index) {
  return static_cast<uint64_t>(integer(info, index, 0, int64_t{1} << 53));
}

// A device address, or the handle of a stream, an event or a graph.
inline uint64_t handle(const Napi::CallbackInfo &info, size_t index) {
  uint64_t value;
  bool lossless;
  if (napi_get_value_bigint_uint64(info.Env(), info[index], &value, &lossless) != napi_ok || !lossless) {
    typeError(info.Env(), index, "an unsigned 64-bit bigint");
  }
  return value;
}

inline std::string text(const Napi::CallbackInfo &info, size_t index) {
  if (!info[index].IsString()) typeError(info.Env(), index, "a string");
  return info[index].As<Napi::String>().Utf8Value();
}

template <typename T>
struct Elements {
  T *data;
  size_t length;
};

// The elements of a typed array, also of one over shared memory.
template <typename T>
Elements<T> elements(const Napi::CallbackInfo &info, size_t index, napi_typedarray_type wanted, const char *name,
                     size_t atLeast = 0) {
  napi_typedarray_type type;
  size_t length;
  void *data;
  bool is = false;
  napi_is_typedarray(info.Env(), info[index], &is);
  if (!is || napi_get_typedarray_info(info.Env(), info[index], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != wanted) {
    typeError(info.Env(), index, name);
  }
  if (length < atLeast) typeError(info.Env(), index, ("of at least " + std::to_string(atLeast) + " elements").c_str());
  return {static_cast<T *>(data), length};
}

inline Elements<uint8_t> byteArray(const Napi::CallbackInfo &info, size_t index) {
  return elements<uint8_t>(info, index, napi_uint8_array, "a Uint8Array");
}
inline Elements<int32_t> int32Array(const Napi::CallbackInfo &info, size_t index, size_t atLeast) {
  return elements<int32_t>(info, index, napi_int32_array, "an Int32Array", atLeast);
}
inline Elements<uint32_t> uint32Array(const Napi::CallbackInfo &info, size_t index, size_t atLeast) {
  return elements<uint32_t>(info, index, napi_uint32_array, "a Uint32Array", atLeast);
}
inline Elements<uint64_t> handleArray(const Napi::CallbackInfo &info, size_t index, size_t atLeast) {
  return elements<uint64_t>(info, index, napi_biguint64_array, "a BigUint64Array", atLeast);
}
inline Elements<double> doubleArray(const Napi::CallbackInfo &info, size_t index, size_t atLeast) {
  return elements<double>(info, index, napi_float64_array, "a Float64Array", atLeast);
}

inline Napi::BigInt fromHandle(Napi::Env env, uint64_t value) { return Napi::BigInt::New(env, value); }

// Text of C, which a broken driver may leave unterminated.
template <size_t N>
std::string fixedText(const char (&chars)[N]) {
  return std::string(chars, strnlen(chars, N));
}

// What the last failed call of this thread failed at.
inline moe_a2a_error lastError(int32_t result) {
  moe_a2a_error error{};
  error.struct_size = sizeof error;
  moe_a2a_last_error(&error);
  if (error.result == 0) error.result = result;
  return error;
}

// An exception with the fields that the TypeScript side makes its errors from.
inline Napi::Error toException(Napi::Env env, const moe_a2a_error &error) {
  const std::string message = fixedText(error.message);
  Napi::Error exception = Napi::Error::New(env, message.empty() ? "the call failed" : message);
  exception.Set("result", Napi::Number::New(env, error.result));
  exception.Set("cudaError", Napi::Number::New(env, error.cuda_error));
  exception.Set("cudaName", Napi::String::New(env, fixedText(error.cuda_name)));
  exception.Set("call", Napi::String::New(env, fixedText(error.call)));
  return exception;
}

inline void check(Napi::Env env, int32_t result) {
  if (result < 0) throw toException(env, lastError(result));
}

}  // namespace moe_a2a_addon
