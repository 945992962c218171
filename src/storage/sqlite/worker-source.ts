/**
 * The code of the worker in one piece, for apps that are bundled into one file and have no worker.js
 * beside it. Empty in the sources; the build fills it in (scripts/build.mjs).
 */
export const workerSource: string = ''
