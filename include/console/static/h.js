// @ts-check
// The one module that imports the vendored view library. Its types are those of the packages that it bundles.
import * as bundle from "./vendor/htm-preact-3.1.1.js";

/**
 * @typedef {import("preact").ComponentChildren} Children
 * @typedef {Event & { currentTarget: HTMLInputElement }} InputChange
 * @typedef {object} Htm
 * @property {(strings: TemplateStringsArray, ...values: unknown[]) => import("preact").VNode} html TypeScript does not
 * look into the templates: it checks a component's own code, but not the properties it is given
 */

/** @type {Htm & Pick<typeof import("preact"), "render"> & typeof import("preact/hooks")} */
const library = /** @type {any} */ (bundle);

export const { html, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } = library;
