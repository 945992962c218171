// A scheduler on a store in memory, for tests of its lanes.
import type { EndpointRecord } from '../../src/model/endpoint.ts'
import { type EndpointFlow, freeFlow } from '../../src/model/flow.ts'
import type { Verdict } from '../../src/schedule/breakers.ts'
import { Scheduler, type SchedulerOptions } from '../../src/schedule/scheduler.ts'
import type { Claim, ClaimResult, LaneRoom } from '../../src/storage/claims.ts'
import type { SendTimesAsk } from '../../src/storage/flows.ts'
import { manualClock } from '../../src/testing/manual-clock.ts'
import { claimOf, endpointRecord, settled } from '../engine/fakes.ts'

const options: SchedulerOptions = {
  maxConcurrency: 100,
  laneCapacity: 1_000,
  memoryCapacity: 10_000,
  memoryBytes: 1_000_000,
  maxBatchBytes: 262_144,
  delivers: true,
}

interface Stored {
  readonly id: string
  readonly dueAtMs: number
  readonly bytes: number
  readonly alone: boolean
}

/** A scheduler on a store in memory and requests that end when the test says so. */
export function setUp(changed: Partial<SchedulerOptions> = {}) {
  const clock = manualClock(0)
  const endpoints = new Map<string, EndpointRecord>()
  const flows = new Map<string, EndpointFlow>()
  const flowOf = (key: string) => flows.get(key) ?? freeFlow(key)
  const told: string[] = []
  const asksForTimes: SendTimesAsk[] = []
  const shares = new Map<string, number>()
  const stored = new Map<string, Stored[]>()
  const asked: { rooms: readonly LaneRoom[]; answer: (error?: Error) => void }[] = []
  const running: Claim[] = []
  const sent: string[] = []
  const released: string[] = []
  const orphaned: string[] = []
  const failures: string[] = []
  const cancelled = new Set<string>()
  const note = (error: unknown) => failures.push((error as Error).message)
  let congested = false
  let failingChanges = 0
  let answerAtOnce = true
  let sealed = 0
  let writing = 0

  const scheduler = new Scheduler(
    {
      clock,
      store: {
        claim: (rooms, nowMs) =>
          new Promise((resolve, reject) => {
            const answer = (error?: Error) => {
              if (error === undefined) resolve(claim(rooms, nowMs))
              else reject(error)
            }
            asked.push({ rooms, answer })
            if (answerAtOnce) answer()
          }),
        changeBreaker: async (key, breaker) => {
          if (failingChanges > 0) {
            failingChanges -= 1
            throw new Error('no answer')
          }
          const isChanged = breaker.epoch === flowOf(key).breaker.epoch + 1
          if (isChanged) flows.set(key, { ...flowOf(key), breaker })
          return { isChanged, flow: flowOf(key) }
        },
        takeSendTimes: async (asks, nowMs, notAfterMs) => {
          asksForTimes.push(...asks)
          return asks.map((ask) => {
            const firstAtMs = Math.max(flowOf(ask.endpointKey).nextSendAtMs, nowMs)
            if (firstAtMs > notAfterMs) return { ...ask, count: 0, firstAtMs }
            const nextSendAtMs = firstAtMs + ask.count * ask.intervalMs
            flows.set(ask.endpointKey, { ...flowOf(ask.endpointKey), nextSendAtMs })
            return { ...ask, firstAtMs }
          })
        },
      },
      endpoint: (key) => endpoints.get(key),
      limits: (endpoint) => ({
        concurrency: shares.get(endpoint.key) ?? endpoint.concurrency ?? 10,
        isShared: shares.has(endpoint.key),
        rateLimit: endpoint.rateLimit,
        timeoutMs: 30_000,
        batch: typeof endpoint.batch === 'object' ? endpoint.batch : null,
      }),
      flow: flowOf,
      breakerChanged: ({ breaker }) => told.push(`${breaker.state} ${breaker.untilMs}`),
      flows: { failed: note, worked: () => {} },
      run: (one) => {
        running.push(one)
        sent.push(one.deliveryId)
      },
      release: ({ deliveryId, dueAtMs }, lane) => {
        released.push(deliveryId)
        // Written a little later: a claim that comes before does not find it.
        writing += 1
        void settled().then(() => {
          writing -= 1
          put(lane, deliveryId, dueAtMs ?? 0, 10, false)
          scheduler.released(lane)
        })
      },
      isCancelled: (id) => cancelled.delete(id),
      congested: () => congested,
      claims: { failed: note, worked: () => {} },
      orphaned: (key) => orphaned.push(key),
      quiet: () => {},
    },
    { ...options, ...changed },
  )

  function put(lane: string, id: string, dueAtMs: number, bytes: number, alone: boolean): void {
    stored.set(lane, [...(stored.get(lane) ?? []), { id, dueAtMs, bytes, alone }])
  }

  function claim(rooms: readonly LaneRoom[], nowMs: number): ClaimResult {
    const claims: Claim[] = []
    const heads = rooms.map(({ endpointKey, limit, batch }) => {
      const all = [...(stored.get(endpointKey) ?? [])].sort((a, b) => a.dueAtMs - b.dueAtMs)
      const taken =
        batch === null
          ? all.filter((one) => one.dueAtMs <= nowMs).slice(0, limit)
          : all.filter((one) => one.alone && one.dueAtMs <= nowMs).slice(0, limit)
      claims.push(...taken.map((one) => claimOf(one.id, endpointKey, one.bytes)))
      let left = all.filter((one) => !taken.includes(one))
      if (batch !== null) {
        const loose = left.filter((one) => !one.alone)
        if (
          loose.length >= batch.size ||
          (loose[0]?.dueAtMs ?? Number.POSITIVE_INFINITY) <= nowMs
        ) {
          const members = loose.slice(0, batch.size)
          sealed += 1
          claims.push({
            ...claimOf(`${endpointKey}:batch${sealed}`, endpointKey),
            eventType: 'batch',
            members: members.map((one) => ({ deliveryId: one.id, eventId: '', eventType: '' })),
          })
          left = left.filter((one) => !members.includes(one))
        }
      }
      stored.set(endpointKey, left)
      const due = left.map((one) => one.dueAtMs)
      return { endpointKey, dueAtMs: due.length === 0 ? null : Math.min(...due) }
    })
    return { claims, heads }
  }

  const add = (key: string, fields: Partial<EndpointRecord> = {}): EndpointRecord => {
    const record = endpointRecord(key, fields)
    endpoints.set(key, record)
    return record
  }
  return {
    clock,
    scheduler,
    asked,
    sent,
    running,
    released,
    orphaned,
    failures,
    cancelled,
    endpoints,
    flows,
    told,
    asksForTimes,
    shares,
    add,
    isWritten: () => writing === 0,
    /** In the store, and the scheduler knows when it is due. */
    store(lane: string, id: string, dueAtMs: number, alone = false, loose = false): void {
      put(lane, `${lane}:${id}`, dueAtMs, 10, alone)
      scheduler.stored(lane, dueAtMs, loose)
    },
    /** Committed with a place kept for it. */
    admit(lane: string, id: string, bytes = 10): boolean {
      const endpoint = endpoints.get(lane)
      if (endpoint === undefined || !scheduler.reserve(endpoint)) return false
      scheduler.admit(claimOf(`${lane}:${id}`, lane, bytes))
      return true
    },
    finish(count = 1): void {
      for (const one of running.splice(0, count)) scheduler.finished(one)
    },
    /** Requests under way end, having begun at that time. */
    end(verdict: Verdict, startedAtMs = clock.nowMs(), count = 1): void {
      for (const one of running.splice(0, count)) scheduler.finished(one, verdict, startedAtMs)
    },
    congest(value: boolean): void {
      congested = value
    },
    failChanges(count: number): void {
      failingChanges = count
    },
    holdAnswers(): void {
      answerAtOnce = false
    },
    left: (lane: string) => (stored.get(lane) ?? []).map((one) => one.id),
  }
}

export const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i}`)
