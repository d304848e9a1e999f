// What somebody has typed into a form, kept for this tab: a refusal, Back or a reload loses none of it.
import { useState } from "./h.js";

/**
 * The texts of a form by the names of its fields; `restored` says that they are of an earlier visit.
 * @param {string} key one for each form
 */
export function useDraft(key) {
  const [draft, setDraft] = useState(() => {
    const texts = read(key);
    return { texts, restored: Object.keys(texts).length > 0 };
  });
  const setTexts = (change) =>
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

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? {};
  } catch {
    return {}; // storage is switched off
  }
}

function write(key, texts) {
  try {
    sessionStorage.setItem(key, JSON.stringify(texts));
  } catch {
    // then a reload begins anew
  }
}
