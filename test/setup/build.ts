// Tests run the TypeScript sources, except the SQLite worker: Node 20 cannot start a thread from a
// .ts file, so the thread comes from dist/, which therefore has to match the sources.
import { buildIfStale } from '../../scripts/build.mjs'

export default async function setup(): Promise<void> {
  await buildIfStale()
}
