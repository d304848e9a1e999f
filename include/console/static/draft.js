// @ts-check
// What a user has typed into a form, kept for this browser tab, so that a refusal, Back or a reload loses nothing.
import { useState } from "./h.js";

/** @typedef {Record<string, string | boolean>} Texts what was typed, by the name of the field */

/**
 * The texts of a form. `restored` says that they come from an earlier visit.
 * @param {string} key one for each form
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
    return {}; // storage is switched off
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
    // Storage is switched off or full: a reload then starts with an empty form.
  }
}
