// One suite for every store. A store that cannot do something says so, with the reason.
import { afterEach, beforeEach, describe, type TestFunction, test } from 'vitest'
import type { Store } from '../../src/storage/storage.ts'
import { acceptStories } from './conformance/accept.ts'
import { batchStories } from './conformance/batch.ts'
import { cancelStories } from './conformance/cancel.ts'
import { claimStories } from './conformance/claim.ts'
import { endpointStories } from './conformance/endpoint.ts'
import { eraseStories } from './conformance/erase.ts'
import { flowStories } from './conformance/flow.ts'
import { healthStories } from './conformance/health.ts'
import { orderStories } from './conformance/order.ts'
import { questionStories } from './conformance/questions.ts'
import { repairStories } from './conformance/repair.ts'
import { settleStories } from './conformance/settle.ts'
import { upkeepStories } from './conformance/upkeep.ts'
import { type TestHost, testHost } from './fixtures.ts'

export interface OpenedStore {
  readonly store: Store
  /** The same data again, as after the process that had it open has died. */
  reopen(): Promise<Store>
  /** Closes whatever is open and deletes the data. */
  dispose(): Promise<void>
}

export interface StoreUnderTest {
  readonly name: string
  open(host: TestHost): Promise<OpenedStore>
  readonly skip: readonly { readonly test: string; readonly reason: string }[]
}

/** What a story gets: an empty store and the clock. */
export interface Scene {
  readonly store: Store
  readonly host: TestHost
  reopen(): Promise<Store>
}

export type Stories = Readonly<Record<string, (scene: Scene) => Promise<void>>>

const chapters: Readonly<Record<string, Stories>> = {
  accept: acceptStories,
  settle: settleStories,
  claim: claimStories,
  batch: batchStories,
  endpoints: endpointStories,
  flow: flowStories,
  health: healthStories,
  order: orderStories,
  questions: questionStories,
  repair: repairStories,
  cancel: cancelStories,
  erase: eraseStories,
  upkeep: upkeepStories,
}

export function describeStore({ name, open, skip }: StoreUnderTest): void {
  describe(`store: ${name}`, () => {
    let opened: OpenedStore
    let host: TestHost
    beforeEach(async () => {
      host = testHost()
      opened = await open(host)
    })
    afterEach(() => opened.dispose())
    const skipped = new Map(skip.map(({ test: title, reason }) => [title, reason]))
    for (const [chapter, stories] of Object.entries(chapters)) {
      describe(chapter, () => {
        for (const [title, story] of Object.entries(stories)) {
          const reason = skipped.get(title)
          skipped.delete(title)
          const run: TestFunction = async () => {
            await story({ store: opened.store, host, reopen: () => opened.reopen() })
          }
          if (reason === undefined) test(title, run)
          else test.skip(`${title} (skipped: ${reason})`, run)
        }
      })
    }
    test('every skip names a test', ({ expect }) => {
      expect([...skipped.keys()]).toEqual([])
    })
  })
}
