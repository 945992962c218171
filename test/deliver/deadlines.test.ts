import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Deadlines, type Expiring } from '../../src/deliver/deadlines.ts'

/** A clock whose timers fire when it is moved past them. */
function fakeClock() {
  let nowMs = 0
  const timers = new Set<{ atMs: number; callback: () => void }>()
  return {
    monotonicMs: () => nowMs,
    timers,
    setTimer(callback: () => void, delayMs: number) {
      const timer = { atMs: nowMs + delayMs, callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    advance(ms: number) {
      const untilMs = nowMs + ms
      for (;;) {
        const [next] = [...timers].sort((a, b) => a.atMs - b.atMs)
        if (next === undefined || next.atMs > untilMs) break
        timers.delete(next)
        nowMs = Math.max(nowMs, next.atMs)
        next.callback()
      }
      nowMs = untilMs
    },
  }
}

function entry(expire: () => void): Expiring {
  return { deadlineMs: 0, before: null, after: null, expire }
}

it('expires each entry at its own time, whatever is added and removed in between', () => {
  const step = fc.record({
    timeoutMs: fc.constantFrom(10, 25, 100),
    waitMs: fc.nat(30),
    keep: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const clock = fakeClock()
      const deadlines = new Deadlines(clock.monotonicMs, clock.setTimer)
      const expired: number[] = []
      const expected: number[] = []
      for (const { timeoutMs, waitMs, keep } of steps) {
        const addedMs = clock.monotonicMs()
        const one = entry(() => {
          deadlines.remove(timeoutMs, one)
          expired.push(clock.monotonicMs() - addedMs - timeoutMs)
        })
        deadlines.add(timeoutMs, addedMs, one)
        clock.advance(waitMs)
        if (keep) expected.push(0)
        else if (waitMs < timeoutMs) deadlines.remove(timeoutMs, one)
        else expected.push(0)
      }
      clock.advance(1_000)
      expect(expired).toEqual(expected)
      expect(clock.timers.size).toBe(0)
    }),
  )
})

it('arms one timer for a thousand entries with one limit', () => {
  const clock = fakeClock()
  const deadlines = new Deadlines(clock.monotonicMs, clock.setTimer)
  let expired = 0
  for (let i = 0; i < 1000; i += 1) {
    const one = entry(() => {
      deadlines.remove(30_000, one)
      expired += 1
    })
    deadlines.add(30_000, clock.monotonicMs(), one)
    clock.advance(1)
  }
  expect(clock.timers.size).toBe(1)
  clock.advance(29_000)
  expect(expired).toBe(1)
  clock.advance(999)
  expect(expired).toBe(1000)
})

it('keeps the order when an entry adds another one while it expires', () => {
  const clock = fakeClock()
  const deadlines = new Deadlines(clock.monotonicMs, clock.setTimer)
  const expired: string[] = []
  const add = (name: string, then: () => void = () => {}) => {
    const one = entry(() => {
      deadlines.remove(10, one)
      expired.push(`${name}@${clock.monotonicMs()}`)
      then()
    })
    deadlines.add(10, clock.monotonicMs(), one)
  }
  add('a', () => add('c'))
  clock.advance(5)
  add('b')
  clock.advance(100)
  expect(expired).toEqual(['a@10', 'b@15', 'c@20'])
})

it('cancels its timers when it is cleared', () => {
  const clock = fakeClock()
  const deadlines = new Deadlines(clock.monotonicMs, clock.setTimer)
  deadlines.add(
    10,
    0,
    entry(() => {}),
  )
  deadlines.add(
    20,
    0,
    entry(() => {}),
  )
  deadlines.clear()
  expect(clock.timers.size).toBe(0)
})
