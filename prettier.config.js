// @ts-check
// Layout of the console's modules.
/** @type {import("prettier").Config} */
export default {
  printWidth: 120,
  // htm's templates look like HTML but treat white space differently: Prettier would change what they show.
  embeddedLanguageFormatting: "off",
};
