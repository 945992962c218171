// Tests run the TypeScript sources, except the SQLite worker: Node 20 cannot start a thread from a
// .ts file, so the thread comes from dist/, which therefore has to match the sources.
import { buildIfStale } from '../../scripts/build.mjs'

export default async function setup(): Promise<void> {
  try {
    await buildIfStale()
  } catch (error) {
    // Half-written code still has tests that need no worker. `npm test` builds first and stops.
    console.error('dist/ could not be built; tests that open SQLite use an older worker.', error)
  }
}
