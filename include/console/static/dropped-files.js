// @ts-check
// The files that a user dropped or chose, with their paths within the dropped or chosen folder. Files that are never
// trained on are omitted.

/**
 * @typedef {object} LocalFile
 * @property {string} path within the dataset
 * @property {File} file
 */

/**
 * The files that a user dropped. Call this in the event handler itself, because the browser discards the files
 * afterwards.
 * @param {DataTransfer} transfer
 * @returns {Promise<LocalFile[]>}
 */
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const plain = [...transfer.files];
  // If a script created the drop event, the dropped files have no entries.
  const found = entries.length
    ? await Promise.all(entries.map(walk))
    : [plain.map((file) => ({ path: file.name, file }))];
  return tidy(found.flat());
}

/**
 * The files that a user chose in a file input. The paths of a chosen folder's files are relative to that folder.
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
    // Browsers return the entries of a folder in batches of a hundred.
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
 * Omit files that are never trained on, and remove the top folder from the paths if all files are in it.
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
 * Whether the file is never trained on, by the same rules as is_ignored in include/datasets/names.py.
 * @param {string} path
 */
export function isIgnored(path) {
  const folders = path.split("/");
  const name = folders.pop() ?? "";
  if (folders.some(isHidden) || isHidden(name) || name === "Thumbs.db" || /\.cache$/i.test(name)) return true;
  return /\.npy$/i.test(name) && !folders.includes("depth"); // below depth/, a .npy file is a depth map
}

/** @param {string} name */
function isHidden(name) {
  return name.startsWith(".") || name === "__MACOSX";
}
