import { Converter, ReflectionKind } from "typedoc";

/** Exports that nobody has described yet. There are none, and it stays so: a new export needs a comment. */
const KNOWN = [];

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
