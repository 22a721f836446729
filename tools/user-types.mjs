/** How a user compiles: neither Node's types nor the DOM's, so that the packages' declarations have to do without. */
export const USER_OPTIONS = {
  strict: true,
  lib: ["es2022"],
  types: [],
  module: "nodenext",
  target: "es2022",
  skipLibCheck: false,
  noEmit: true,
};
