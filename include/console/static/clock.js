// @ts-check
// The server's time: ages and remaining times are right even on a computer whose own clock is wrong.

/** A smaller difference in milliseconds may be the time that the response took. */
const LEAST = 10_000;

/** By how many milliseconds this computer's clock is ahead of the server's. */
let ahead = 0;

/**
 * Compare this computer's clock with that of the server, unless the response took too long.
 * @param {string | null} date the response's header
 * @param {number} asked when the request was sent
 */
export function compareClocks(date, asked) {
  const now = Date.now();
  const difference = now - Date.parse(date ?? "");
  if (Number.isNaN(difference) || now - asked > LEAST) return;
  ahead = Math.abs(difference) < LEAST ? 0 : difference;
}

/** The server's time in milliseconds, as Date.now() returns it. */
export function serverNow() {
  return Date.now() - ahead;
}
