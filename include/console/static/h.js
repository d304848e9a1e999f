// @ts-check
// The only module that imports the vendored view library. The types come from the packages that the library bundles.
import * as bundle from "./vendor/htm-preact-3.1.1.js";

/**
 * @typedef {import("preact").ComponentChildren} Children
 * @typedef {Event & { currentTarget: HTMLInputElement }} InputChange
 * @typedef {object} Htm
 * @property {(strings: TemplateStringsArray, ...values: unknown[]) => import("preact").VNode} html TypeScript does not
 * read the templates: it checks components, but not the properties that templates pass to them
 */

/** @type {Htm & Pick<typeof import("preact"), "render"> & typeof import("preact/hooks")} */
const library = /** @type {any} */ (bundle);

export const { html, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } = library;
