import { Converter, ReflectionKind } from "typedoc";

/** Exports that nobody has described yet. This list only gets shorter: what is not in it needs a comment. */
const KNOWN = [
  "@moe-a2a/core.Backend",
  "@moe-a2a/core.BackendDevice",
  "@moe-a2a/core.Combine",
  "@moe-a2a/core.DispatchInput",
  "@moe-a2a/core.ErrorCode",
  "@moe-a2a/core.GatherOptions",
  "@moe-a2a/core.ReadyOptions",
  "@moe-a2a/core.Region",
  "@moe-a2a/core.Tensor",
  "@moe-a2a/core.alignUp",
  "@moe-a2a/cuda.CudaBackend",
];

/** Calls modules by the packages that export them, and makes an export without a description an error. */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const undescribed = [];
    for (const module of project.children ?? []) {
      module.name = module.name.replace(/^([^/]+)\/src/, "@moe-a2a/$1");
      for (const reflection of module.children ?? []) {
        if (!isDescribed(reflection)) undescribed.push(`${module.name}.${reflection.name}`);
      }
    }
    for (const name of undescribed.filter((name) => !KNOWN.includes(name))) {
      app.logger.error(`${name} is exported and has no description`);
    }
    for (const name of KNOWN.filter((name) => !undescribed.includes(name))) {
      app.logger.warn(`${name} has a description now, or is gone: take it off the list in plugin.mjs`);
    }
  });
}

function isDescribed(reflection) {
  // Exported again by another package, which has described it.
  if (reflection.kind === ReflectionKind.Reference) return true;
  return reflection.hasComment() || (reflection.signatures ?? []).some((signature) => signature.hasComment());
}
