import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/engine/system-clock.ts'

const startMs = Date.UTC(2026, 0, 1)
const hourMs = 3_600_000

describe('the clock of the machine', () => {
  beforeEach(() => {
    vi.useFakeTimers({
      toFake: ['Date', 'performance', 'setTimeout', 'clearTimeout'],
      now: startMs,
    })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  /** The wall clock is set; the steady one knows nothing of it. */
  const setWall = (ms: number) => vi.setSystemTime(ms)

  it('runs with the wall clock', () => {
    const clock = systemClock()
    expect(clock.nowMs()).toBe(startMs)
    vi.advanceTimersByTime(1_234)
    expect(clock.nowMs()).toBe(startMs + 1_234)
  })

  it('set back an hour: never goes backwards and never stalls', () => {
    const clock = systemClock()
    let lastMs = clock.nowMs()
    setWall(startMs - hourMs)
    for (let i = 0; i < 60; i += 1) {
      vi.advanceTimersByTime(1_000)
      const nowMs = clock.nowMs()
      expect(nowMs - lastMs).toBe(1_000)
      lastMs = nowMs
    }
  })

  it('correctness 15: set forward a day: follows within 10 s', () => {
    const clock = systemClock()
    setWall(startMs + 24 * hourMs)
    vi.advanceTimersByTime(10_001)
    expect(clock.nowMs()).toBe(startMs + 24 * hourMs + 10_001)
  })

  describe('that follows a store', () => {
    it('has its time from the first answer on, whether ahead or behind', () => {
      for (const aheadMs of [5 * 60_000, -5 * 60_000]) {
        const clock = systemClock()
        expect(clock.nowMs()).toBe(Date.now())
        clock.follow(Date.now() + aheadMs - 10, 20)
        expect(clock.nowMs()).toBe(Date.now() + aheadMs)
        vi.advanceTimersByTime(60_000)
        expect(clock.nowMs()).toBe(Date.now() + aheadMs)
      }
    })

    it('believes the quickest of its answers', () => {
      const clock = systemClock()
      clock.follow(Date.now() - 25, 50)
      clock.follow(Date.now() + 400, 800)
      clock.follow(Date.now() + 30, 2)
      clock.follow(Date.now() - 300, 900)
      vi.advanceTimersByTime(10_001)
      expect(clock.nowMs()).toBe(Date.now() + 31)
    })

    it('that is behind: runs slower until it is there, and never backwards', () => {
      const clock = systemClock()
      clock.follow(Date.now(), 0)
      let lastMs = clock.nowMs()
      for (let i = 0; i < 60; i += 1) {
        vi.advanceTimersByTime(1_000)
        clock.follow(Date.now() - 2_000, 0)
        const nowMs = clock.nowMs()
        expect(nowMs - lastMs).toBeGreaterThanOrEqual(899)
        expect(nowMs - lastMs).toBeLessThanOrEqual(1_001)
        lastMs = nowMs
      }
      expect(Math.abs(lastMs - (Date.now() - 2_000))).toBeLessThanOrEqual(1)
    })

    it('correctness 15: that is set back a day: runs on', () => {
      const clock = systemClock()
      clock.follow(Date.now(), 0)
      for (let i = 0; i < 40; i += 1) {
        vi.advanceTimersByTime(1_000)
        clock.follow(Date.now() - 24 * hourMs, 0)
        expect(clock.nowMs()).toBe(Date.now())
      }
    })
  })

  it('waits longer than a timer of Node can', () => {
    const clock = systemClock()
    const delayMs = 3 * 2 ** 31
    let firedAfterMs: number | null = null
    clock.setTimer(() => {
      firedAfterMs = Date.now() - startMs
    }, delayMs)
    vi.advanceTimersByTime(delayMs - 1)
    expect(firedAfterMs).toBeNull()
    vi.advanceTimersByTime(1)
    expect(firedAfterMs).toBe(delayMs)
  })

  it('a long wait can be cancelled at any time of it', () => {
    const clock = systemClock()
    let fired = false
    const cancel = clock.setTimer(
      () => {
        fired = true
      },
      3 * 2 ** 31,
    )
    vi.advanceTimersByTime(2 * 2 ** 31)
    cancel()
    vi.advanceTimersByTime(4 * 2 ** 31)
    expect(fired).toBe(false)
    expect(vi.getTimerCount()).toBe(0)
  })
})
