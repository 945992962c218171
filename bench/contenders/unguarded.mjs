// `ours` without the address guard: what the guard costs is the difference between the two. The
// package has no such option; here its connector is replaced while its modules are loaded.

import { register } from 'node:module'

export async function open(setup) {
  register('./unguarded/hooks.mjs', import.meta.url)
  const { open: openOurs } = await import('./ours.mjs')
  const { wasUsed } = await import('./unguarded/connect.mjs')
  const contender = await openOurs(setup)
  return {
    ...contender,
    async close() {
      await contender.close()
      // Were the file to move, both sides would be guarded and the cost would look like nothing.
      if (!wasUsed()) throw new Error('the guard was not taken out: dist/deliver/connect.js moved')
    },
  }
}
