// The conformance suite on a file and in memory.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { memory, sqlite } from '../../src/storage/sqlite/sqlite.ts'
import type { Store } from '../../src/storage/storage.ts'
import { describeStore } from './conformance.ts'

describeStore({
  name: 'sqlite',
  async open(host) {
    const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-'))
    const storage = sqlite({ path: path.join(folder, 'webhooks.db') })
    let store: Store = await storage.open(host)
    return {
      store,
      async reopen() {
        await store.close()
        store = await storage.open(host)
        return store
      },
      async dispose() {
        await store.close()
        rmSync(folder, { recursive: true })
      },
    }
  },
  skip: [],
})

const nothingToReopen = 'a store in memory is gone when it is closed'

describeStore({
  name: 'memory',
  async open(host) {
    const store = await memory().open(host)
    return {
      store,
      reopen: () => Promise.reject(new Error(nothingToReopen)),
      dispose: () => store.close(),
    }
  },
  skip: [
    'correctness 16: a fan-out that was interrupted goes on after a restart',
    'correctness R2: an attempt of a lost claim is kept as late and decides nothing',
    'correctness 15: after the clock was set back, what waits keeps its delay, not its time',
    'correctness R1: what a dead process owned waits again at once, due when it was',
    'correctness 12: a batch that is tried again is the same: id, members and bytes',
    'correctness 12: a crash in flight leaves the sealed batch as it was',
    'an endpoint comes back as it was saved',
    'a repair outlives the process',
    'one that is marked ends when its owner dies',
    'a head that was cancelled lets the next one go when its owner dies',
    'of what is in flight nothing is sent again, and nothing else of its event',
    'a batch in flight with an erased event is taken apart when it would wait again',
    'the longest hold counts, and is there after a restart',
    'correctness 14: a breaker is changed from the state that was seen, once',
    'correctness 14: send times are handed out once each, in their distance',
  ].map((title) => ({ test: title, reason: nothingToReopen })),
})
