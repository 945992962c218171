/**
 * Finds the code of the worker thread: beside this file in the package, in dist/ when the sources
 * run under a test runner, and as text when the app was bundled into one file.
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { WebhookError } from '../../model/errors.ts'
import { workerSource } from './worker-source.ts'

/** Empty in a CommonJS bundle, where `import.meta` is an empty object. */
const ownUrl: string = import.meta.url ?? ''

/** @throws WebhookError BUNDLE_WORKER_MISSING */
export function workerUrl(): string {
  const built = builtWorker()
  if (built && existsSync(built)) return built.href
  if (workerSource !== '') {
    return `data:text/javascript;base64,${Buffer.from(workerSource).toString('base64')}`
  }
  throw new WebhookError(
    'BUNDLE_WORKER_MISSING',
    `Expected the code of the SQLite thread ${built ? `at ${built.pathname}` : `beside ${ownUrl || 'this bundle'}`}, found none; run \`npm run build\` in the sources of @k-msg/webhook, or leave the package out of your bundle (esbuild: --external:@k-msg/webhook).`,
  )
}

/** Only by our own file name: a bundle may have another worker.js beside it. */
function builtWorker(): URL | null {
  if (ownUrl.endsWith('/storage/sqlite/worker-url.js')) return new URL('./worker.js', ownUrl)
  if (ownUrl.endsWith('/src/storage/sqlite/worker-url.ts')) {
    return new URL('../../../dist/storage/sqlite/worker.js', ownUrl)
  }
  return null
}

/** Where to look for the SQLite package: here, then from the app's entry, then where it runs. */
export function loadFrom(): string[] {
  const entry = process.argv[1]
  return [
    ...(ownUrl.startsWith('file:') ? [ownUrl] : []),
    ...(entry ? [pathToFileURL(path.resolve(entry)).href] : []),
    pathToFileURL(path.join(process.cwd(), 'package.json')).href,
  ]
}
