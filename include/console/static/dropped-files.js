// @ts-check
// The files that a user dropped or chose: those of a folder with their paths, without what is never trained on.

/**
 * @typedef {object} LocalFile
 * @property {string} path within the dataset
 * @property {File} file
 */

/**
 * The files of a drop. The browser gives them only while the event is handled, so this must be called at once.
 * @param {DataTransfer} transfer
 * @returns {Promise<LocalFile[]>}
 */
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const plain = [...transfer.files];
  // Files of a drop that a program assembled have no entries.
  const found = entries.length
    ? await Promise.all(entries.map(walk))
    : [plain.map((file) => ({ path: file.name, file }))];
  return tidy(found.flat());
}

/**
 * The files of an input; those of a chosen folder have their paths in it.
 * @param {FileList} files
 */
export function filesOfInput(files) {
  return tidy([...files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
}

/**
 * @param {FileSystemEntry} entry
 * @returns {Promise<LocalFile[]>}
 */
async function walk(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  if (isFile(entry)) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  for (;;) {
    // A browser returns the entries of a folder in batches of a hundred.
    /** @type {FileSystemEntry[]} */
    const piece = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!piece.length) return found;
    for (const child of piece) if (!isHidden(child.name)) found.push(...(await walk(child)));
  }
}

/**
 * @param {FileSystemEntry} entry
 * @returns {entry is FileSystemFileEntry}
 */
function isFile(entry) {
  return entry.isFile;
}

/**
 * Leave out what is never trained on, and the folder that all files have in common, whose name says nothing.
 * @param {LocalFile[]} files
 */
function tidy(files) {
  const kept = files.filter(({ path }) => !isIgnored(path));
  const [top] = kept[0]?.path.split("/") ?? [];
  const common = kept.length > 0 && kept.every(({ path }) => path.startsWith(`${top}/`));
  const short = common ? kept.map(({ path, file }) => ({ path: path.slice(top.length + 1), file })) : kept;
  return short.sort((one, other) => (one.path < other.path ? -1 : 1));
}

/**
 * As is_ignored in include/datasets/layouts/names.py.
 * @param {string} path
 */
export function isIgnored(path) {
  const folders = path.split("/");
  const name = folders.pop() ?? "";
  if (folders.some(isHidden) || isHidden(name) || name === "Thumbs.db" || /\.cache$/i.test(name)) return true;
  return /\.npy$/i.test(name) && !folders.includes("depth"); // there it is a depth map
}

/** @param {string} name */
function isHidden(name) {
  return name.startsWith(".") || name === "__MACOSX";
}
