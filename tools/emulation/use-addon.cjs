// Lets @moe-a2a/cuda load the addon that EMULATED_ADDON names; for `node --require`.
const Module = require("node:module");

const { EMULATED_ADDON } = process.env;
const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  return request === "@moe-a2a/cuda-linux-x64" ? EMULATED_ADDON : resolve.call(this, request, ...rest);
};
