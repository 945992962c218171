/** What a poll tells when a claim ran beside it: both ask the server, and answers come in any order. */
import { expect, it } from 'vitest'
import type { LaneHead, LaneRoom } from '../../src/storage/claims.ts'
import { Claims } from '../../src/storage/postgres/claim.ts'
import { Floors } from '../../src/storage/postgres/floors.ts'
import type { Session } from '../../src/storage/postgres/session.ts'
import { Shares } from '../../src/storage/postgres/shares.ts'
import { Watch } from '../../src/storage/postgres/watch.ts'
import type { StoreWatcher } from '../../src/storage/storage.ts'
import { gate } from '../journey/stage.ts'

const room = (endpointKey: string): LaneRoom => ({ endpointKey, limit: 10, batch: null })

/** A server on which each lane has one due delivery, and whose answers come when the test lets them. */
function scene() {
  const lanes = ['a', 'b', 'c']
  let headsHeld = gate()
  let claimHeld = gate()
  headsHeld.open()
  claimHeld.open()
  let asked = () => {}
  const connection = {
    get: async () => ({
      version: 1,
      workers: '[]',
      now_ms: 0,
      mark: '1',
      flows: null,
      marked: null,
    }),
    async all(sql: string) {
      asked()
      if (sql.includes('with recursive lane')) {
        const heads = lanes.map((key) => ({ endpoint_key: key, due_at_ms: 5 }))
        await headsHeld.opened
        return heads
      }
      await claimHeld.opened
      return [{ id: 'me', kind: null, at_ms: 1 }]
    },
  }
  const session = {
    floors: new Floors(),
    database: { read: (work: (on: unknown) => unknown) => work(connection), location: '' },
    worker: { id: 1, lost: () => new Error('lost'), watch: async () => {}, nextTakeOverMs: 1e9 },
    hints: { workers() {} },
    sawVersion() {},
    refusedIntake: new Map(),
    nowMs: () => 0,
  } as unknown as Session
  const claims = new Claims(session)
  let nowMs = 0
  const clock = { steadyMs: () => nowMs, wallMs: () => nowMs, setTimer: () => () => {} }
  const host = { nowMs: () => nowMs, log() {}, onFatal() {}, delivers: false }
  const watch = new Watch(session, claims, new Shares(), clock, host)
  const told: string[][] = []
  const watcher = {
    due: (heads: readonly LaneHead[]) => told.push(heads.map(({ endpointKey }) => endpointKey)),
    endpointsChanged() {},
    sharesChanged: () => true,
  } as unknown as StoreWatcher
  return {
    claims,
    told,
    start: () => watch.start(watcher),
    poll() {
      nowMs += 10_000
      return watch.poll()
    },
    holdHeads() {
      headsHeld = gate()
      return headsHeld
    },
    holdClaim() {
      claimHeld = gate()
      return claimHeld
    },
    nextQuestion: () =>
      new Promise<void>((resolve) => {
        asked = resolve
      }),
  }
}

it('tells of every lane when no claim runs', async () => {
  const { start, poll, told } = scene()
  await start()
  await poll()
  expect(told).toEqual([
    ['a', 'b', 'c'],
    ['a', 'b', 'c'],
  ])
})

it('keeps quiet about a lane that was claimed while the heads were read', async () => {
  const { start, poll, told, claims, holdHeads, nextQuestion } = scene()
  await start()
  const held = holdHeads()
  const question = nextQuestion()
  const polling = poll()
  await question
  await claims.claim([room('b')], 0)
  held.open()
  await polling
  expect(told.at(-1)).toEqual(['a', 'c'])
})

it('keeps quiet about a lane whose claim began before the heads were read, and ended after', async () => {
  const { start, poll, told, claims, holdClaim } = scene()
  await start()
  const held = holdClaim()
  const claiming = claims.claim([room('a'), room('c')], 0)
  await poll()
  expect(told.at(-1)).toEqual(['b'])
  held.open()
  await claiming
  await poll()
  expect(told.at(-1)).toEqual(['a', 'b', 'c'])
})

it('keeps quiet about a lane whose claim failed: its answer may be lost, and it asks again', async () => {
  const { start, poll, told, claims, holdHeads, nextQuestion } = scene()
  await start()
  const held = holdHeads()
  const question = nextQuestion()
  const polling = poll()
  await question
  const failing = claims.claim([{ ...room('c'), batch: { size: 1, maxBytes: 1 } }], 0)
  await Promise.allSettled([failing])
  held.open()
  await polling
  expect(told.at(-1)).toEqual(['a', 'b'])
})
