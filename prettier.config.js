// Layout of the console's modules; .editorconfig and ruff say the same of other files where they can.
export default {
  printWidth: 120,
  // htm's templates look like HTML but treat white space differently: Prettier would change what they show.
  embeddedLanguageFormatting: "off",
};
