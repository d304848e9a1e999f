// @ts-check
// Keeps a form's input for this browser tab: the input survives a refused request, the Back button and a reload.
import { useState } from "./h.js";

/** @typedef {Record<string, string | boolean>} Texts the user's input, by name of the field */

/**
 * The texts of a form. `restored` says whether the texts come from an earlier visit.
 * @param {string} key differs between forms
 */
export function useDraft(key) {
  const [draft, setDraft] = useState(() => {
    const texts = read(key);
    return { texts, restored: Object.keys(texts).length > 0 };
  });
  const setTexts = (/** @type {(texts: Texts) => Texts} */ change) =>
    setDraft(({ texts, restored }) => {
      const changed = change(texts);
      write(key, changed);
      return { texts: changed, restored };
    });
  const clear = () => {
    write(key, {});
    setDraft({ texts: {}, restored: false });
  };
  return { ...draft, setTexts, clear };
}

/**
 * @param {string} key
 * @returns {Texts}
 */
function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null") ?? {};
  } catch {
    return {}; // storage is disabled
  }
}

/**
 * @param {string} key
 * @param {Texts} texts
 */
function write(key, texts) {
  try {
    sessionStorage.setItem(key, JSON.stringify(texts));
  } catch {
    // Storage is disabled or full: after a reload, the form is empty.
  }
}
